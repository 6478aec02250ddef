// Fetches the parts of the page and keeps them fresh. Names are text: what the server sends has
// them escaped, and what is made here has them as textContent.
"use strict";

const $ = (id) => document.getElementById(id);
const form = $("asked");
const parts = [...document.querySelectorAll("[data-part]")];
let asking = null;
let again = null;
let took = 0;
let seen = 0;
let isOld = false; // something has happened since the figures were asked for

// The address

function written() {
  const chosen = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value) chosen.set(name, value);
  return chosen;
}

// What is asked stands in the address; what is being written does not count yet.
const query = () => new URLSearchParams(location.search);

function fill(asked) {
  const dated = !asked.get("range") && (asked.get("since") || asked.get("until"));
  for (const element of form.elements) {
    if (element.type === "radio") element.checked = !dated && element.value === (asked.get("range") || "24h");
    else if (element.name) element.value = asked.get(element.name) || (element.name === "by" ? "agent" : "");
  }
  $("dates").open = Boolean(dated) || $("dates").contains(document.activeElement);
}

function go(asked) {
  history.pushState(null, "", "/?" + asked);
  fill(asked);
  show(true);
}

// The parts

async function show(wanted) {
  clearTimeout(again);
  again = null;
  if (asking) asking.abort();
  const mine = (asking = new AbortController());
  isOld = false;
  const asked = query();
  $("csv").href = "/calls.csv?" + asked;
  sessionStorage.setItem("asked", location.search); // for the way back from a run
  if (seen && !wanted) asked.set("seen", seen);
  const begin = performance.now();
  try {
    await Promise.all(parts.map((section) => load(section, asked, mine.signal, wanted)));
    took = performance.now() - begin;
    $("trouble").hidden = true;
    if (wanted && $("state")) $("said").textContent = $("state").textContent.trim();
  } catch (error) {
    if (error.name === "AbortError") return;
    $("trouble").textContent = "The dashboard does not answer: is it still running? It is asked again every few seconds.";
    $("trouble").hidden = false;
    again = setTimeout(show, 3000);
  } finally {
    if (asking === mine) {
      asking = null;
      if (isOld) refresh();
    }
  }
}

function refresh() {
  isOld = true;
  if (again || asking || $("live").getAttribute("aria-pressed") !== "true") return;
  again = setTimeout(show, Math.max(500, 4 * took));
}

async function load(section, asked, signal, wanted) {
  if (wanted) section.setAttribute("aria-busy", "true");
  const answer = await fetch("/part/" + section.dataset.part + "?" + asked, { signal });
  if (!answer.ok) throw new Error(await answer.text());
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").body;
  adapt(section, fresh);
  section.classList.remove("waiting");
  section.removeAttribute("aria-busy");
}

// Makes the children of one node like those of another, and leaves alone what is equal: focus,
// open details and scrolled tables stay as they are.
function adapt(old, fresh) {
  const before = [...old.childNodes];
  const after = [...fresh.childNodes];
  after.forEach((node, n) => {
    const known = before[n];
    if (!known) old.append(node);
    else if (known.nodeName !== node.nodeName) known.replaceWith(node);
    else if (known.nodeType !== Node.ELEMENT_NODE) {
      if (known.data !== node.data) known.data = node.data;
    } else {
      for (const { name } of [...known.attributes]) if (name !== "open" && !node.hasAttribute(name)) known.removeAttribute(name);
      for (const { name, value } of node.attributes) if (known.getAttribute(name) !== value) known.setAttribute(name, value);
      adapt(known, node);
    }
  });
  for (const node of before.slice(after.length)) node.remove();
}

if (form) {
  form.addEventListener("submit", (event) => { event.preventDefault(); go(written()); });
  form.addEventListener("change", (event) => {
    if (event.target.type === "datetime-local") form.querySelectorAll("[name=range]").forEach((radio) => { radio.checked = false; });
    if (event.target.type === "radio") form.querySelectorAll("[type=datetime-local]").forEach((time) => { time.value = ""; });
    go(written());
  });
  $("clear").addEventListener("click", () => go(new URLSearchParams()));
  addEventListener("popstate", () => { fill(new URLSearchParams(location.search)); show(true); });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    const href = link && link.getAttribute("href");
    if (!href || !href.startsWith("/?") || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(new URLSearchParams(href.slice(2)));
  });
  fill(new URLSearchParams(location.search));
  show(true);
  listen();
}

// New calls: on screen at once; the figures follow as fast as they can be worked out.

function listen() {
  const news = new EventSource("/events?latest=10");
  const live = $("live");
  const isLive = () => live.getAttribute("aria-pressed") === "true";
  news.addEventListener("calls", (event) => {
    const isFirst = !seen;
    seen = Number(event.lastEventId);
    if (!isLive()) return;
    const chosen = query();
    const isWanted = (call) => ["agent", "model", "tag", "user"].every((name) => {
      const wanted = chosen.get(name);
      return !wanted || call[name] === wanted || (wanted === "(none)" && !call[name]);
    });
    for (const call of JSON.parse(event.data).filter(isWanted)) $("calls").prepend(row(call));
    while ($("calls").children.length > 50) $("calls").lastChild.remove();
    $("quiet").hidden = $("calls").children.length > 0;
    if (!isFirst || !$("state") || seen > Number($("state").dataset.last)) refresh();
  });
  news.addEventListener("figures", refresh);
  news.addEventListener("open", () => live.classList.remove("lost"));
  news.addEventListener("error", () => live.classList.add("lost"));
  live.addEventListener("click", () => {
    live.setAttribute("aria-pressed", String(!isLive()));
    live.textContent = isLive() ? "Live" : "Paused";
    if (isLive()) show(true);
  });
}

function row(call) {
  const line = document.createElement("tr");
  const add = (kind, text, isFigure) => {
    const cell = document.createElement("td");
    const name = document.createElement(kind);
    name.textContent = text;
    name.title = text;
    if (isFigure) cell.className = "num";
    else name.className = "name";
    cell.append(name);
    line.append(cell);
    return name;
  };
  const time = call.at.slice(11, 19);
  if (call.path) add("a", time).href = call.path;
  else add("span", time);
  for (const text of [call.agent, call.model, call.user]) add("span", text);
  for (const text of [call.tokens, call.cost]) add("span", text, true);
  add("span", call.status);
  return line;
}

// Light and dark, and words beside the pointer

const theme = $("theme");
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const next = { "": "dark", dark: "light", light: "" }[root.dataset.theme || ""];
  if (next) root.dataset.theme = next;
  else delete root.dataset.theme;
  document.cookie = `tokenopt_theme=${next}; path=/; max-age=31536000; samesite=strict`;
  theme.textContent = "Theme: " + (next || "system");
});

const tip = $("tip");
document.addEventListener("pointermove", (event) => {
  const place = event.target.closest && event.target.closest("[data-tip]");
  tip.hidden = !place;
  if (!place) return;
  tip.textContent = place.dataset.tip.replaceAll("␊", "\n");
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 4)) + "px";
  tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 4)) + "px";
});
document.addEventListener("pointerleave", () => { tip.hidden = true; });
const back = $("back");
if (back) back.href = "/" + (sessionStorage.getItem("asked") || "");
