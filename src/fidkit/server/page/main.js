// Where the page begins: what was linked to, the form, the keyboard, the language.

import "./answer.js";
import { get } from "./api.js";
import { ask, described, stop } from "./asking.js";
import { byId, fill, h } from "./dom.js";
import * as documents from "./documents.js";
import { show } from "./evidence.js";
import * as history from "./history.js";
import { openLinked } from "./linked.js";
import { closeSource } from "./source.js";
import { change, drawn, state } from "./state.js";
import { preferred, say, switched } from "./words.js";

const field = byId("question");

function drawWords({ language }) {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-word]")) {
    if (element.id !== "submit") element.textContent = say(element.dataset.word);
  }
  fill(byId("language"), say("other_language"));
  fill(byId("help-keys"), say("keys_list").map(([key, does]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, does))));
}

function drawForm({ phase, question, reader, readers }) {
  fill(byId("submit"), say(phase === "reading" ? "stop" : "ask"));
  document.title = question ? `${question} – fidkit` : "fidkit";
  const choice = byId("reader-choice");
  choice.hidden = readers.length < 2;
  const options = readers.map(({ name }) => h("option", { value: name, selected: name === reader }, name));
  const chosen = (event) => change({ reader: event.target.value });
  fill(choice, h("label", {}, `${say("reader")} `, h("select", { id: "reader", "data-key": "reader", onchange: chosen }, options)));
}

/** Ask or open what the address says, as a link or the browser's way back have it. */
function follow() {
  const link = new URLSearchParams(location.hash.slice(1));
  const [asked, source] = [link.get("q"), link.get("source")];
  if (source) {
    stop();
    openLinked(source, link.get("answer"));
    return;
  }
  if (!asked || asked.trim() === "") return;
  field.value = asked;
  ask(asked);
}

function submit(event) {
  event.preventDefault();
  if (stop()) return;
  const question = field.value.trim();
  if (!question) return;
  const link = history.linkTo(question);
  if (location.hash === link) ask(question);
  else location.hash = link; // and is asked from there, so that the way back works
}

/** Passages are walked through from the one that has the focus. */
function step(by) {
  const at = state.passages.findIndex((_, n) => byId(`passage-${n + 1}`)?.contains(document.activeElement));
  const last = Math.min(state.shown, state.passages.length) - 1;
  if (last >= 0) show(Math.max(0, Math.min(last, at + by)));
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const typing = event.target.matches("input[type=text], textarea, select");
  if (event.key === "Escape") {
    document.body.classList.add("no-hover"); // until the pointer moves on
    if (!closeSource() && !stop()) document.activeElement.blur();
    return;
  }
  if (typing) return;
  const does = { "/": toField, "?": help, j: () => step(1), k: () => step(-1) }[event.key];
  if (does) {
    event.preventDefault();
    does();
  }
}

function toField() {
  field.focus();
  field.select();
}

const help = () => byId("help").showModal();

async function start() {
  drawn([], drawWords);
  drawn(["phase", "question", "reader", "readers"], drawForm);
  change({ language: preferred() });
  byId("ask").addEventListener("submit", submit);
  byId("help-button").addEventListener("click", help);
  byId("language").addEventListener("click", () => change({ language: switched() }));
  addEventListener("keydown", pressed);
  addEventListener("pointermove", () => document.body.classList.remove("no-hover"));
  addEventListener("hashchange", follow);
  history.start();
  follow();
  if (state.phase === "idle" && !state.linked) field.focus();
  documents.start();
  try {
    const { readers } = await get("/v1/readers");
    change({ readers, reader: state.reader || (readers.find((one) => one.default) ?? readers[0]).name });
  } catch (error) {
    change({ phase: "failed", problem: described(error) });
  }
}

start();
