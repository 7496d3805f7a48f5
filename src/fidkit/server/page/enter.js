// The field for a key: in the person's language, and on to the question that a link was to.

import { byId } from "./dom.js";
import { change } from "./state.js";
import { preferred, say } from "./words.js";

change({ language: preferred() });
document.documentElement.lang = preferred();
for (const element of document.querySelectorAll("[data-word]")) {
  if (element.textContent.trim()) element.textContent = say(element.dataset.word);
}
byId("enter").setAttribute("action", `/enter${location.hash}`);
