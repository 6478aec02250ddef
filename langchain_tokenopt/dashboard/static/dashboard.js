// Shows what /data says. Names are text: they enter the page as textContent, never as markup.
"use strict";

const $ = (id) => document.getElementById(id);
const form = $("asked");
const FILTERS = [...form.elements].map((e) => e.name).filter((n) => n && n !== "range");
let asking = null;
let again = null;
let took = 0;

function make(kind, text, attributes = {}) {
  const element = document.createElement(kind);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function query() {
  const chosen = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value) chosen.set(name, value);
  return chosen.toString();
}

function fromAddress() {
  const chosen = new URLSearchParams(location.search);
  for (const element of form.elements) {
    if (element.name && chosen.has(element.name)) element.value = chosen.get(element.name);
  }
  if (!form.elements.range.value) form.elements.range.value = "24h";
}

async function show() {
  clearTimeout(again);
  again = null;
  if (asking) asking.abort();
  const mine = (asking = new AbortController());
  const asked = query();
  $("csv").href = "/calls.csv?" + asked;
  const begin = performance.now();
  try {
    const answer = await fetch("/data?" + asked, { signal: mine.signal });
    if (!answer.ok) throw new Error(await answer.text());
    const data = await answer.json();
    took = performance.now() - begin;
    draw(data);
  } catch (error) {
    if (error.name !== "AbortError") $("state").textContent = "No answer: " + error.message;
  } finally {
    if (asking === mine) asking = null;
  }
}

function draw(data) {
  $("ledger").textContent = data.ledger || "";
  $("problem").hidden = !data.problem;
  $("shown").hidden = Boolean(data.problem) || !data.calls;
  if (data.problem) {
    $("why").textContent = data.problem;
    $("state").textContent = "Waiting for a ledger.";
    return;
  }
  $("state").textContent = data.calls
    ? `${data.calls.toLocaleString("en")} calls since ${data.since.replace("T", " ")}`
    : `No calls with these filters in this period; the ledger begins ${data.first.replace("T", " ")}. Choose a longer period, or fewer filters.`;
  if (!data.calls) return;
  $("tiles").replaceChildren(...data.tiles.map(tile));
  $("forecast").textContent = data.forecast || "";
  for (const [dimension, rows] of Object.entries(data.spenders)) suggest(dimension, rows);
  $("spenders").replaceChildren(...Object.entries(data.spenders).map(spenders));
  $("budgets").replaceChildren(...data.budgets.map(gauge));
  if (!data.budgets.length) {
    $("budgets").append(make("li", "No budget has done anything in this period. Cap one: BudgetPlan(total_tokens=40_000).run(sinks=[ledger])", { class: "soft" }));
  }
  $("advice").replaceChildren(...data.advice.map(advice));
  if (!data.advice.length) $("advice").append(make("li", "Nothing: no figure of this period calls for it."));
  $("unsaved").hidden = data.figures.savings.data.length > 0;
  for (const [name, figure] of Object.entries(data.figures)) plot(name, figure);
}

function tile(kpi) {
  const item = make("li", kpi.title, { class: kpi.state });
  item.append(make("b", kpi.value));
  const words = [kpi.change, "n " + kpi.n.toLocaleString("en")];
  if (kpi.n_excluded) words.push(kpi.n_excluded.toLocaleString("en") + " left out");
  if (kpi.state !== "none") words.push(kpi.state);
  item.append(make("span", words.filter(Boolean).join(" · ")));
  return item;
}

function suggest(dimension, rows) {
  const list = $("names-" + dimension);
  if (list) list.replaceChildren(...rows.map((row) => make("option", undefined, { value: row.name })));
}

function spenders([dimension, rows]) {
  const card = make("div", undefined, { class: "card" });
  card.append(make("h3", "By " + dimension));
  const wide = make("div", undefined, { class: "wide", tabindex: "0", role: "region", "aria-label": "Spend by " + dimension });
  const table = make("table");
  const head = make("tr");
  const columns = Object.keys(rows[0] || { name: "" });
  for (const column of columns) head.append(make("th", column === "name" ? dimension : column, { scope: "col" }));
  const body = make("tbody");
  for (const row of rows) {
    const line = make("tr");
    for (const column of columns) {
      const cell = make("td", column === "name" ? undefined : row[column]);
      if (column === "name") cell.append(chooser(dimension, row.name));
      line.append(cell);
    }
    body.append(line);
  }
  const top = make("thead");
  top.append(head);
  table.append(top, body);
  wide.append(table);
  card.append(wide);
  return card;
}

function chooser(dimension, name) {
  const chosen = new URLSearchParams(query());
  chosen.set(dimension, name);
  const link = make("a", name, { href: "/?" + chosen, class: "name", title: "Only " + dimension + " " + name });
  link.addEventListener("click", (event) => {
    event.preventDefault();
    form.elements[dimension].value = name;
    choose();
  });
  return link;
}

function gauge(budget) {
  const item = make("li", undefined, { class: "card" });
  const name = budget.owner ? `${budget.budget} (${budget.owner})` : budget.budget;
  item.append(make("span", name, { class: "name", title: name }));
  item.append(make("meter", undefined, { min: 0, max: 1, low: 0.75, high: 0.95, optimum: 0, value: Math.min(1, budget.used), "aria-label": "Used of budget " + name }));
  const words = [`${(100 * budget.used).toFixed(1)} %, ${budget.text}`];
  if (budget.alerts) words.push(`${budget.alerts} alerts`);
  if (budget.denied) words.push(`${budget.denied} calls refused`);
  item.append(make("span", words.join(" · "), { class: "soft" }));
  return item;
}

function advice(line) {
  const item = make("li", line.text + (line.saves ? ` Expected saving: about ${line.saves}. ` : " "));
  if (line.command) item.append(make("code", line.command));
  return item;
}

function plot(name, figure) {
  const place = $(name);
  place.hidden = !figure.data.length;
  if (place.hidden || typeof Plotly === "undefined") return;
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim();
  const line = style.getPropertyValue("--line").trim();
  const axis = { gridcolor: line, zerolinecolor: line, automargin: true };
  const narrow = place.clientWidth < 500;
  const horizontal = figure.data[0].orientation === "h";
  Plotly.react(place, figure.data, {
    ...figure.layout,
    font: { color: ink, family: "system-ui, sans-serif", size: 12 },
    title: { ...figure.layout.title, font: { size: 15 }, x: 0, xanchor: "left" },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 50, r: 10, t: 40, b: 40 },
    xaxis: { ...axis, nticks: narrow ? 4 : undefined },
    yaxis: { ...axis, tickprefix: horizontal ? "" : "$" },
    showlegend: !horizontal, legend: narrow ? { orientation: "h", y: -0.3 } : {},
  }, { responsive: true, displayModeBar: false });
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", figure.layout.title.text + ": " + figure.data.map((trace) => trace.name || "").filter(Boolean).join(", "));
}

function choose() {
  const asked = query();
  history.pushState(null, "", "/?" + asked);
  show();
}

form.addEventListener("submit", (event) => { event.preventDefault(); choose(); });
form.elements.range.addEventListener("change", choose);
addEventListener("popstate", () => { form.reset(); fromAddress(); show(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
addEventListener("load", () => { fromAddress(); show(); });

// New calls: on screen at once; the figures follow as fast as they can be worked out.
const news = new EventSource("/events");
news.addEventListener("calls", (event) => {
  const chosen = Object.fromEntries(FILTERS.map((name) => [name, form.elements[name].value]));
  const calls = JSON.parse(event.data).filter((call) => FILTERS.every((name) => !chosen[name] || call[name] === chosen[name] || (chosen[name] === "(none)" && !call[name])));
  for (const call of calls) {
    const line = make("tr");
    for (const part of [new Date(call.at).toLocaleTimeString(), call.agent, call.model, call.user, call.tokens, call.cost, call.status]) line.append(make("td", part));
    $("calls").prepend(line);
  }
  while ($("calls").children.length > 50) $("calls").lastChild.remove();
  if (calls.length) $("quiet").hidden = true;
  if (!again && !asking) again = setTimeout(show, Math.max(500, 4 * took));
});
