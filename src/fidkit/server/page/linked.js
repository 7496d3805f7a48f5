// Characters of a document that a link leads to, as citations have them: shown in place, marked.

import { byId, fill, h } from "./dom.js";
import { placeInWords } from "./evidence.js";
import { markedAs } from "./marks.js";
import { openedSource, toggleSource } from "./source.js";
import { blank, change, drawn, keyOf } from "./state.js";

/** Show them, and the answer in them where the link has it (`34-47`); what was asked before is put away. */
export async function openLinked(source, answer) {
  const linked = { id: "", source, text: "" };
  change({ ...blank(), linked });
  await toggleSource(linked, (shown) => Object.assign(linked, markedAs(shown, answer)));
  byId("linked-heading").focus({ preventScroll: true });
  // A picture of a page is marked itself, and stands above the text.
  const first = byId("linked").querySelector("img, mark");
  if (first?.matches("mark")) first.scrollIntoView({ block: "center" });
}

function draw({ linked, opened }) {
  const open = linked !== null && keyOf(linked) in opened;
  byId("linked").hidden = !open;
  fill(
    byId("linked-body"),
    open && [
      linked.title && h("h3", {}, linked.title),
      Object.keys(linked.where ?? {}).length > 0 && h("p", { class: "place quiet" }, placeInWords(linked)),
      openedSource(linked, "linked-source"),
    ],
  );
}

drawn(["linked", "opened"], draw);
