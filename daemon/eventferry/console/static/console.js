// What the pages do beyond plain HTML: they keep progress up to date, and add conditions without a round trip.
"use strict";

const EVERY = 1500; // ms between two looks while something is under way
const SLOWEST = 15000; // ms, where the server does not answer
const UNDER_WAY = ["queued", "running"];

/* ---- progress ---- */

const list = document.querySelector("[data-rows]");
const spoken = document.getElementById("spoken");
const stalled = document.getElementById("stalled");
let pause = EVERY;

function waiting() {
  if (!list) return [];
  const all = list.matches("[data-id]") ? [list] : [...list.querySelectorAll("tr[data-id]")];
  return all.filter((each) => UNDER_WAY.includes(each.dataset.state));
}

function say(text) {
  if (spoken) spoken.textContent = text;
}

function replaceRow(old, fresh) {
  const focused = old.contains(document.activeElement) ? document.activeElement.id : null;
  old.replaceWith(fresh);
  if (focused) {
    const next = document.getElementById(focused) || fresh.querySelector("a");
    if (next) next.focus();
  }
  say(`${fresh.dataset.title}: ${fresh.dataset.label}`);
}

function updateRow(old, fresh) {
  if (old.dataset.label !== fresh.dataset.label || old.dataset.state !== fresh.dataset.state) {
    replaceRow(old, fresh);
    return;
  }
  const cells = fresh.querySelectorAll("[data-live]");
  old.querySelectorAll("[data-live]").forEach((cell, index) => updateCell(cell, cells[index]));
}

function updateCell(cell, fresh) {
  const bar = cell.querySelector("progress");
  const next = fresh.querySelector("progress");
  if (bar && next) {
    bar.value = next.value; // kept in place, so that it moves rather than jumps
    cell.querySelector(".percent").textContent = fresh.querySelector(".percent").textContent;
  } else if (cell.innerHTML !== fresh.innerHTML) {
    cell.innerHTML = fresh.innerHTML;
  }
}

function updatePage(fresh) {
  if (fresh.dataset.state !== list.dataset.state) {
    location.reload();
    return;
  }
  for (const piece of list.querySelectorAll("[data-piece]")) {
    updateCell(piece, fresh.querySelector(`[data-name="${piece.dataset.piece}"]`));
  }
}

async function look() {
  const rows = waiting();
  if (!rows.length) return;
  if (!document.hidden) await refresh(rows);
  setTimeout(look, pause);
}

async function refresh(rows) {
  const query = rows.map((row) => `id=${encodeURIComponent(row.dataset.id)}`).join("&");
  try {
    const answer = await fetch(`${list.dataset.rows}?${query}`, { headers: { Accept: "text/html" } });
    if (answer.status === 401) {
      location.reload();
      return;
    }
    if (!answer.ok) throw new Error(answer.statusText);
    show(rows, new DOMParser().parseFromString(await answer.text(), "text/html"));
    pause = EVERY;
    if (stalled) stalled.hidden = true;
  } catch {
    pause = Math.min(pause * 2, SLOWEST);
    if (stalled && pause >= 4 * EVERY) stalled.hidden = false;
  }
}

function show(rows, fresh) {
  for (const old of rows) {
    const row = fresh.getElementById(`export-${old.dataset.id}`);
    if (!row) location.reload(); // deleted elsewhere
    else if (old === list) updatePage(row);
    else updateRow(old, row);
  }
}

setTimeout(look, EVERY);

/* ---- the create form ---- */

const add = document.getElementById("add");
if (add) {
  add.addEventListener("click", (event) => {
    event.preventDefault();
    const rows = document.getElementById("rows");
    const row = rows.lastElementChild.cloneNode(true);
    row.querySelectorAll("input").forEach((input) => { input.value = ""; });
    row.querySelectorAll("select").forEach((select) => { select.selectedIndex = 0; });
    row.setAttribute("aria-label", `Condition ${rows.children.length + 1}`);
    rows.append(row);
    row.querySelector("input").focus();
  });
}

const mistakes = document.getElementById("mistakes");
if (mistakes) mistakes.focus();

/* ---- times: in UTC as written, the visitor's own on hovering ---- */

for (const time of document.querySelectorAll("time")) {
  const moment = new Date(time.dateTime);
  time.title = moment.toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
}
