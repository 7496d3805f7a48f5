// The documents that are served: listed, added by a button or by dropping them, watched, removed.

// What is removed goes after a few seconds, in which that can be undone where it stands.

import { get, upload } from "./api.js";
import { described } from "./asking.js";
import { byId, fill, h } from "./dom.js";
import { change, drawn, state } from "./state.js";
import { inWords, sentence } from "./told.js";
import { number, say } from "./words.js";

const PER_REQUEST = 50;
const UNDO_MS = 6000;

let events = null;
let asked = PER_REQUEST;

/** List the documents, and follow what happens to them while the page is looked at. */
export function start() {
  refresh();
  follow();
  document.addEventListener("visibilitychange", follow);
  dropping();
  addEventListener("pagehide", () => Object.keys(state.leaving).forEach(leave));
}

async function refresh() {
  try {
    const [documents, [corpus]] = await Promise.all([
      get(`/v1/documents?limit=${asked}`),
      get("/v1/corpora"),
    ]);
    change({ documents, corpus });
  } catch (error) {
    change({ work: { problem: described(error) } });
  }
}

/** A browser keeps few connections to one server: a page that nobody sees lets go of its own. */
function follow() {
  if (document.visibilityState === "hidden") {
    events?.close();
    events = null;
  } else if (events === null) {
    events = new EventSource("/v1/documents/events");
    const on = (name, listen) => events.addEventListener(name, (event) => event.data && listen(JSON.parse(event.data)));
    on("progress", (progress) => tell({ message: progressInWords(progress), share: shareOf(progress) }));
    on("error", (error) => change({ work: { problem: state.work?.problem, fault: sentence(error.message) } }));
    on("indexed", () => {
      tell({ message: say("indexed") });
      refresh();
    });
    events.addEventListener("open", () => state.documents && refresh()); // what was missed meanwhile
  }
}

/** What goes on; a problem with what was sent stays beside it until something else is done. */
function tell(work) {
  change({ work: { problem: state.work?.problem, ...work } });
}

const shareOf = (progress) => (progress.total_bytes ? progress.done_bytes / progress.total_bytes : null);

function progressInWords({ stage, done_files: done, total_files: total, passages }) {
  const counts = say("files_done", ...[done, total, passages].map(number));
  return `${say("building")[stage] ?? stage}: ${counts}`;
}

async function add(files) {
  if (!files.length) return;
  for (const file of files) stay(file.name);
  const message = say("sending", [...files].map((file) => file.name).join(", "));
  change({ work: { message, share: 0 } });
  try {
    const taken = await upload(files, (share) => change({ work: share < 1 ? { message, share } : { message: say("sent"), share: null } }));
    if (taken.refused.length) change({ work: { ...state.work, problem: refusals(taken.refused) } });
  } catch (error) {
    const none = error.fault?.refused;
    change({ work: { problem: none ? refusals(none) : described(error) } });
  }
  await refresh();
}

function remove(name) {
  const timer = setTimeout(() => leave(name), UNDO_MS);
  change({ leaving: { ...state.leaving, [name]: timer }, work: { message: say("removed", name) } });
}

/** A file isn't about to be removed any more. */
function stay(name) {
  const { [name]: timer, ...others } = state.leaving;
  clearTimeout(timer);
  change({ leaving: others });
}

function undo(name) {
  if (!state.leaving[name]) return; // too late
  stay(name);
  change({ work: { message: say("stays", name) } });
}

/** Remove a file for good, also where the page is being left. */
async function leave(name) {
  clearTimeout(state.leaving[name]);
  state.leaving[name] = 0;
  try {
    await get(`/v1/documents/${encodeURIComponent(name)}`, { method: "DELETE", keepalive: true });
  } catch (error) {
    change({ work: { problem: described(error) } });
  }
  const had = document.activeElement.dataset.key === keyOf(name);
  await refresh();
  stay(name);
  if (had) (byId("documents-list").querySelector("[data-key^=remove-]") ?? byId("files")).focus({ preventScroll: true });
}

const keyOf = (name) => `remove-${name}`;

function dropping() {
  const veil = byId("drop");
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    veil.hidden = !state.documents?.can_add;
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) veil.hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    veil.hidden = true;
    if (state.documents?.can_add) add(event.dataTransfer.files);
    else change({ work: { problem: say("fixed") } });
  });
}

function drawHead({ documents, corpus }) {
  const counts = corpus && say("served", ...[corpus.files, corpus.passages, corpus.left_out.length].map(number));
  fill(byId("served"), counts);
  if (!documents) return;
  const chosen = (event) => {
    add([...event.target.files]);
    event.target.value = "";
  };
  const button = [
    h("label", { class: "button", for: "files" }, say("add")),
    h("input", { id: "files", type: "file", multiple: true, class: "unseen", "data-key": "files", onchange: chosen }),
    h("span", { class: "quiet" }, say("add_hint")),
  ];
  fill(byId("documents-body"), h("p", { class: "add" }, documents.can_add ? button : say("fixed")));
}

function drawWork({ work }) {
  if (work === null) return fill(byId("documents-said"));
  const bar = work.share !== undefined && h("progress", { value: work.share, "aria-label": work.message });
  const problems = `${work.problem ?? ""}\n${work.fault ?? ""}`.split("\n").filter(Boolean).map((line) => h("p", { class: "problem" }, line));
  fill(byId("documents-said"), problems, work.message && h("p", { class: "quiet" }, work.message), bar);
}

function drawList({ documents }) {
  if (!documents) return;
  const { added, total } = documents;
  const own = added.length > 0 && [h("h3", {}, say("added_by")), h("ul", { class: "list files" }, added.map(ownFile))];
  const rest = total - documents.documents.length;
  const next = h("button", { type: "button", class: "plain", "data-key": "next", onclick: further }, say("next_files", number(Math.min(rest, PER_REQUEST))));
  const open = byId("all-files")?.open;
  fill(
    byId("documents-list"),
    own,
    h("details", { id: "all-files", open },
      h("summary", { "data-key": "all" }, `${say("all_served")} (${number(total)})`),
      h("ul", { class: "list files" }, documents.documents.map(servedFile)),
      rest > 0 && asked < 1000 && next),
  );
}

function further() {
  asked = Math.min(1000, asked + PER_REQUEST);
  refresh();
}

function ownFile(file) {
  const status = { waiting: "waiting", indexed: "status_indexed", "left out": "left_out" }[file.status];
  const leaving = file.name in state.leaving;
  const [word, does] = leaving ? ["undo", undo] : ["remove", remove];
  const button = {
    type: "button", class: "plain", "data-key": keyOf(file.name), "aria-label": say(`${word}_what`, file.name),
    onclick: () => does(file.name), // in one place: the focus stays on it
  };
  return h("li", { class: leaving && "leaving" }, h("span", { class: "name" }, file.name),
    h("span", { class: "quiet" }, leaving ? say("leaving") : reasoned(say(status), file.reason)), h("button", button, say(word)));
}

function servedFile(file) {
  const status = file.status === "indexed"
    ? reasoned(say("passages", number(file.passages)), file.reason)
    : reasoned(say("left_out"), file.reason);
  return h("li", {}, h("span", { class: "name" }, file.name), h("span", { class: "quiet" }, status));
}

/** Why each of these files wasn't taken, a line each. */
function refusals(files) {
  return files.map(({ name, reason, code }) => inWords({ message: reason, code, param: "name", values: { name } })).join("\n");
}

/** Reasons are English: a loader says them, of which there are many. */
const reasoned = (status, reason) => (reason ? [`${status}: `, h("span", { lang: "en" }, reason)] : status);

drawn(["documents", "corpus"], drawHead);
drawn(["work"], drawWork);
drawn(["documents", "leaving"], drawList);
