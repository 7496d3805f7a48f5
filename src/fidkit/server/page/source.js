// Where a passage stands, opened in place: its surroundings, and for a PDF the picture of its page.

import { get, placed } from "./api.js";
import { described } from "./asking.js";
import { h } from "./dom.js";
import { marked, sentenceSource } from "./marks.js";
import { change, keyOf, state } from "./state.js";
import { say } from "./words.js";

/** Open or close the source of a passage; `see` has what is shown before it is drawn. */
export async function toggleSource(one, see = () => {}) {
  const key = keyOf(one);
  const { [key]: open, ...others } = state.opened;
  if (open !== undefined) {
    change({ opened: others });
    return;
  }
  const asked = state.answer;
  change({ opened: { ...state.opened, [key]: { loading: true } } });
  let found;
  try {
    const shown = await get(placed("passages", one.source));
    see(shown);
    found = { shown, picture: shown.boxes.length > 0 && pictureOf(one, key) };
  } catch (error) {
    found = { problem: described(error) };
  }
  if (state.answer === asked && key in state.opened) change({ opened: { ...state.opened, [key]: found } });
}

/** Close the source that was opened last; whether there was one. */
export function closeSource() {
  const keys = Object.keys(state.opened);
  if (!keys.length) return false;
  const { [keys.at(-1)]: _, ...others } = state.opened;
  change({ opened: others });
  return true;
}

/** What is shown of a source that was opened; nothing of others. */
export function openedSource(one, id) {
  const open = state.opened[keyOf(one)];
  if (open === undefined) return null;
  return h("div", { class: "source", id }, inside(one, open));
}

function inside(one, { loading, problem, shown, picture }) {
  if (loading) return h("p", { class: "quiet" }, say("opening"));
  if (problem) return h("p", { class: "problem", role: "alert" }, problem);
  const text = h(
    "div", { class: "surroundings" },
    h("p", {}, shown.before, h("span", { class: "inner" }, passageText(one, shown)), shown.after),
  );
  const facts = Object.entries(shown.facts).map(([name, value]) => h("li", {}, `${name}: ${value}`));
  return [
    h("p", { class: "quiet" }, shown.source),
    facts.length > 0 && h("ul", { class: "facts quiet" }, facts),
    picture && [named(picture, shown), h("h4", {}, say("page_text"))],
    picture === null && h("p", { class: "quiet" }, say("page_failed")),
    text,
    shown.notes.map((note) => h("p", { class: "quiet note" }, note)),
  ];
}

function passageText(one, shown) {
  if (shown.text !== one.text) return shown.text;
  return marked(one).map(({ text, kind }) =>
    kind ? h("mark", { class: kind === "answer" ? "exact" : null }, text) : text,
  );
}

/** The picture of a page is made once, since one that is made anew is loaded anew; null where there is none. */
function pictureOf(one, key) {
  const failed = () => {
    if (key in state.opened) change({ opened: { ...state.opened, [key]: { ...state.opened[key], picture: null } } });
  };
  return h("img", { class: "page", src: placed("pages", sentenceSource(one)), onerror: failed });
}

function named(picture, shown) {
  picture.alt = say("page_picture", shown.boxes[0].page, shown.source);
  return picture;
}
