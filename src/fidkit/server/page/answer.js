// The answer while it grows, and what there is to know of it: chips, confidence, notes, readers, times.

import { ask, compare } from "./asking.js";
import { byId, fill, h, svg } from "./dom.js";
import { sentenceOf, show } from "./evidence.js";
import { linkTo } from "./history.js";
import { drawn } from "./state.js";
import { sentence } from "./told.js";
import { milliseconds, percent, say } from "./words.js";

const MOST_CHIPS = 5;
const SHADES = 6;

function draw({ phase, text, answer, problem, question, readers }) {
  byId("answer").hidden = phase === "idle";
  const region = byId("answer-text");
  region.setAttribute("aria-busy", String(phase === "reading"));
  if (phase === "reading") {
    fill(region, h("p", { class: text ? "said growing" : "said quiet growing" }, text || say("reading")));
    fill(byId("answer-more"));
  } else if (phase === "failed") {
    const again = h("button", { type: "button", onclick: () => ask(question) }, say("again"));
    fill(region, h("p", { class: "problem", role: "alert" }, problem));
    fill(byId("answer-more"), h("p", {}, again));
  } else if (phase === "done") {
    fill(region, answer.answer === null ? withheld(answer) : given(answer));
    fill(byId("answer-more"), more(answer, readers));
  }
}

function given(answer) {
  return h("p", { class: "said" }, answer.answer, " ", chips(answer));
}

function withheld(answer) {
  const guess =
    answer.guess &&
    h("details", {}, h("summary", {}, say("best_guess")),
      h("p", { class: "guess" }, answer.guess, " ", chips(answer)), h("p", { class: "quiet" }, say("confidence", percent(answer.confidence))));
  return [h("p", { class: "said" }, say("silent")), guess];
}

/** A number for each passage that the answer stands in, or for the first one. */
function chips(answer) {
  const numbered = answer.evidence.map((one, n) => [one, n]);
  const standing = numbered.filter(([one]) => one.sentence).slice(0, MOST_CHIPS);
  return (standing.length ? standing : numbered.slice(0, 1)).map(([one, n]) => chip(one, n));
}

function chip(one, n) {
  const id = `hover-${n + 1}`;
  const attributes = {
    type: "button", class: "chip", "aria-label": say("chip", n + 1, one.title), "aria-describedby": id,
    "data-key": `chip-${n}`, onclick: () => show(n),
  };
  // It is there before anybody points at it, so that it shows at once.
  const hover = h(
    "span", { class: "hover", id, role: "tooltip" },
    h("b", {}, one.title), h("span", {}, one.sentence ? sentenceOf(one) : one.text.slice(0, 240)),
    h("small", {}, say("share", percent(one.score))),
  );
  return h("span", { class: "chip-place" }, h("button", attributes, String(n + 1)), hover);
}

function more(answer, readers) {
  const reader = readers.find((one) => one.name === answer.reader);
  const word = reader?.calibrated === false ? "likelihood" : "confidence";
  const facts = answer.answer === null ? [] : [say(word, percent(answer.confidence))];
  if (answer.verbatim && answer.answer !== null) facts.push(say("verbatim"));
  facts.push(milliseconds(answer.timings_ms.total));
  return [
    h("p", { class: "facts quiet" }, facts.map((fact) => h("span", {}, fact)), copier(answer.question)),
    answer.notes.map((note) => h("p", { class: "quiet note" }, sentence(note))),
  ];
}

function copier(question) {
  const copy = async (event) => {
    const button = event.currentTarget;
    try {
      await navigator.clipboard.writeText(new URL(linkTo(question), location.href).href);
      button.textContent = say("linked");
    } catch {
      button.textContent = say("unlinked"); // no permission, or no secure connection
    }
  };
  return h("button", { type: "button", class: "plain", id: "copy", onclick: copy }, say("link"));
}

function drawReaders({ phase, answer, others, readers }) {
  byId("readers").hidden = phase !== "done" || readers.length < 2;
  if (byId("readers").hidden) return;
  if (others === null) {
    const button = h("button", { type: "button", id: "compare", "data-key": "compare", onclick: compare }, say("compare"));
    fill(byId("readers-body"), h("p", {}, button));
    return;
  }
  const columns = ["reader", "answer", "column_confidence", "time"].map((word) => h("th", { scope: "col" }, say(word)));
  const rows = [{ reader: answer.reader, answer, problem: "" }, ...others].map(row);
  const table = h("table", {}, h("thead", {}, h("tr", {}, columns)), h("tbody", {}, rows));
  fill(byId("readers-body"), h("div", { class: "scroll", tabindex: "0", role: "group", "aria-labelledby": "readers-heading" }, table));
}

function row({ reader, answer, problem }) {
  const cells = answer
    ? [answer.answer ?? `${say("silent")} (${answer.guess ?? say("nothing")})`, percent(answer.confidence), milliseconds(answer.timings_ms.total)]
    : [problem || say("comparing"), "", ""];
  return h("tr", {}, h("th", { scope: "row" }, reader), cells.map((cell) => h("td", {}, cell)));
}

function drawTimings({ phase, answer }) {
  byId("timings").hidden = phase !== "done";
  if (phase !== "done") return;
  const { total, ...times } = answer.timings_ms;
  const stages = Object.entries(times);
  const rest = total - stages.reduce((sum, [, ms]) => sum + ms, 0);
  if (rest > 0.01 * total) stages.push(["other", rest]);
  let x = 0;
  const pieces = stages.map(([, ms], n) => {
    const width = (100 * ms) / total;
    const piece = svg("rect", { x: `${x}%`, width: `${width}%`, height: "100%", class: `shade-${n % SHADES}` });
    x += width;
    return piece;
  });
  const legend = stages.map(([stage, ms], n) =>
    h("li", {}, swatch(n), h("span", {}, say("stages")[stage] ?? stage), h("b", {}, milliseconds(ms))),
  );
  fill(
    byId("timings-body"),
    svg("svg", { class: "stacked", width: "100%", height: "12", "aria-hidden": "true" }, pieces),
    h("ul", { class: "legend" }, legend),
  );
}

const swatch = (n) =>
  svg("svg", { width: "10", height: "10", "aria-hidden": "true" }, svg("rect", { width: "10", height: "10", rx: "2", class: `shade-${n % SHADES}` }));

drawn(["phase", "text", "answer", "problem", "readers"], draw);
drawn(["phase", "others", "readers"], drawReaders);
drawn(["phase"], drawTimings);
