// The passages that were read, by their share: with the sentence marked, the source, and what would be without.

import { test } from "./asking.js";
import { byId, fill, h, svg } from "./dom.js";
import { marked } from "./marks.js";
import { openedSource, toggleSource } from "./source.js";
import { change, drawn, keyOf, state } from "./state.js";
import { percent, say } from "./words.js";

/** Bring a passage into view and give it the focus. */
export function show(n) {
  if (n >= state.shown) change({ shown: state.passages.length });
  const item = byId(`passage-${n + 1}`);
  item?.focus({ preventScroll: true });
  item?.scrollIntoView({ block: "nearest" });
}

/** The sentence around the answer, with the answer marked. */
export function sentenceOf(one) {
  return marked(one).filter((piece) => piece.kind).map(markedPiece);
}

function draw({ phase, passages, shown }) {
  byId("evidence").hidden = phase === "idle" || phase === "failed" || (phase === "reading" && !passages.length);
  const about = !passages.length ? "none_found" : phase === "done" ? "evidence_about" : "found_about";
  fill(byId("evidence-about"), say(about));
  fill(byId("passages"), passages.slice(0, shown).map(passage));
  const rest = passages.length - shown;
  const button = h("button", { type: "button", class: "plain", id: "more", "data-key": "more", onclick: showAll }, say("more", rest));
  fill(byId("evidence-more"), rest > 0 && phase === "done" && button);
}

async function showAll() {
  const first = state.shown;
  show(first);
  await test(state.passages.length);
}

function passage(one, n) {
  const id = `passage-${n + 1}`;
  const done = state.phase === "done";
  return h(
    "li", { id, class: "passage", tabindex: "-1", "data-key": id, "aria-labelledby": `${id}-title` },
    h("div", { class: "head" },
      h("span", { class: "number", "aria-hidden": "true" }, String(n + 1)),
      h("h3", { id: `${id}-title` }, one.title || one.source),
      done && h("span", { class: "share" }, h("span", { class: "unseen" }, say("share", percent(one.score))),
        h("span", { "aria-hidden": "true" }, percent(one.score)))),
    done && bar(one.score),
    h("p", { class: "place quiet" }, placeInWords(one)),
    // What the answer stands in is shown whole; of the others a few lines, and all of them with the source.
    h("p", { class: one.sentence ? "text" : "text clamped" }, done ? marked(one).map(markedPiece) : dense(one.text)),
    done && actions(one, n),
    done && state.without[keyOf(one)] && without(one, n),
    done && openedSource(one, `source-${n + 1}`),
  );
}

const bar = (share) =>
  svg("svg", { class: "bar", width: "100%", height: "4", "aria-hidden": "true" },
    svg("rect", { width: "100%", height: "4", class: "ground" }),
    svg("rect", { width: `${100 * share}%`, height: "4", class: "full" }));

function markedPiece({ text, kind }) {
  if (kind === "answer") return h("mark", { class: "exact" }, text);
  return kind ? h("mark", {}, text) : dense(text);
}

/** Without empty lines, which a document has for other reasons. */
const dense = (text) => text.replaceAll(/\n\s*\n/g, "\n");

/** The document and the places in it, as a person calls them. */
export function placeInWords(one) {
  const where = Object.entries(one.where ?? {}).map(([kind, name]) => 
    kind === "heading" ? name : `${kindInWords(kind, name)} ${name}`,
  );
  return [one.source.replace(/:\d+-\d+$/, ""), ...where].join(" · ");
}

/** `rows` of rows 4-6, `row` of row 4. */
const kindInWords = (kind, name) =>
  (name.includes("-") && say("several")[kind]) || (say("kinds")[kind] ?? kind);

function actions(one, n) {
  const key = keyOf(one);
  const source = {
    type: "button", class: "plain", "data-key": `source-${n}`, "aria-expanded": String(key in state.opened),
    "aria-controls": `source-${n + 1}`, onclick: () => toggleSource(one),
  };
  const leave = {
    type: "button", class: "plain", "data-key": `without-${n}`, "aria-expanded": String(Boolean(state.without[key])),
    "aria-controls": `without-${n + 1}`, onclick: () => toggleWithout(key, n),
  };
  const test = state.tests?.get(key);
  return h("p", { class: "actions" },
    h("button", source, say(key in state.opened ? "source_close" : "source")),
    h("button", leave, say("without")),
    test && !same(test) && h("span", { class: "rests" }, say("rests")));
}

function toggleWithout(key, n) {
  change({ without: { ...state.without, [key]: !state.without[key] } });
  // It failed before, or this passage wasn't among those that were tested.
  if (state.without[key] && !state.testing && state.tests?.get(key) === undefined) test(n + 1);
}

/** What the answer would be without a passage, or that this is being found out. */
function without(one, n) {
  const test = state.tests?.get(keyOf(one));
  let said;
  if (test) said = tested(test);
  else if (state.testing) said = h("p", {}, say("testing"));
  else if (state.testProblem) said = h("p", { class: "problem" }, state.testProblem);
  else said = h("p", {}, say("without_untested"));
  return h("div", { class: "without", id: `without-${n + 1}`, role: "status" }, said);
}

function tested(test) {
  const { guess, score } = state.answer;
  const likelihoods = [percent(Math.exp(score)), percent(Math.exp(test.score))];
  return [
    h("p", {}, `${say(same(test) ? "without_same" : "without_other")}: `, h("b", {}, test.answer || say("nothing"))),
    h("p", { class: "quiet" }, say("without_score", guess ?? say("nothing"), ...likelihoods)),
  ];
}

const same = (test) => (test.answer || null) === state.answer.guess;

drawn(["phase", "passages", "shown", "tests", "testing", "testProblem", "without", "opened"], draw);
