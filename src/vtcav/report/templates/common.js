"use strict";
// Everything is inserted as text (textContent), never as markup: names come from a user.
const root = document.documentElement;
const find = (id) => document.getElementById(id);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (tag, text = "", name = "") => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
};
const drawn = (tag, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};
const parsed = (id) => JSON.parse(find(id).textContent);
root.classList.add("scripted");

// -- colours of the page; the choice is kept unless the browser refuses storage to local files
const theme = find("theme");
const recall = () => { try { return localStorage.getItem("vtcav-theme") || ""; } catch { return ""; } };
const keep = (name) => { try { localStorage.setItem("vtcav-theme", name); } catch { /* not kept */ } };
const colour = (name) => {
  if (name === "light" || name === "dark") root.dataset.theme = name;
  else delete root.dataset.theme;
};
theme.value = ["light", "dark"].includes(recall()) ? recall() : "";
colour(theme.value);
theme.addEventListener("change", () => { colour(theme.value); keep(theme.value); });

// -- copying
all(".copy").forEach((button) => button.addEventListener("click", async () => {
  const source = find(button.dataset.of);
  source.closest("details")?.setAttribute("open", "");
  const text = source.tagName === "PRE" ? source.textContent
    : [...source.children].map((p) => p.textContent).join("\n\n");
  let done = false;
  try { await navigator.clipboard.writeText(text); done = true; } catch { /* not allowed here */ }
  if (!done) getSelection().selectAllChildren(source);
  find("copied").textContent = done ? "Copied." : "Selected: copy it with Ctrl+C, or Cmd+C.";
}));

// -- printing opens all details except the long ones
addEventListener("beforeprint", () => {
  for (const details of all("details:not(.long):not([open])")) {
    details.open = true;
    details.dataset.closed = "";
  }
});
addEventListener("afterprint", () => {
  for (const details of all("details[data-closed]")) {
    details.open = false;
    delete details.dataset.closed;
  }
});
