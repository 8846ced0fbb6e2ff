// Keeps a page of the dashboard current. Without it, every page works and is as of the moment it was loaded.
"use strict";

(() => {
  const EVERY_MS = 3000;
  const MOST_MS = 15000;
  const ANSWER_MS = 10000;
  const SAY_EVERY_MS = 5000;
  const SAID = 3;

  const main = document.getElementById("main");
  const freshness = document.getElementById("freshness");
  const asOf = document.getElementById("as-of");
  if (!main || !freshness || !asOf) return;

  let tag = "";
  let wait = EVERY_MS;
  let timer = 0;

  // ---- What the page says: replaced in place, so that focus, scrolling, open details and typed text stay ----

  function keyOf(node) {
    return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") || node.id : "";
  }

  function setAttributes(old, fresh) {
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
  }

  function patch(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    setAttributes(old, fresh);
    if (old.nodeName === "SELECT") return; // what is chosen there stays
    const keyed = new Map([...old.childNodes].filter(keyOf).map((node) => [keyOf(node), node]));
    let place = old.firstChild;
    for (const node of [...fresh.childNodes]) {
      const key = keyOf(node);
      let match = key ? keyed.get(key) : place;
      if (!key) while (match && keyOf(match)) match = match.nextSibling;
      if (match && match.nodeName === node.nodeName) {
        if (match === place) place = place.nextSibling;
        else old.insertBefore(match, place);
        keyed.delete(key);
        patch(match, node);
      } else {
        old.insertBefore(document.importNode(node, true), place);
      }
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  function replaceMain(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const content = fresh.getElementById("main");
    if (!content) throw new Error("the answer is no page of the dashboard");
    const focused = document.activeElement;
    const before = statuses();
    patch(main, content);
    if (focused && focused !== document.activeElement) (focused.isConnected ? focused : main).focus({ preventScroll: true });
    document.title = fresh.title;
    told(before, statuses());
    return fresh.getElementById("as-of");
  }

  // ---- What changed: shown for a moment, and said, but never more than a few things at once ----

  function statuses() {
    const rows = [...main.querySelectorAll("[data-key][data-status]")];
    return new Map(rows.map((row) => [row.dataset.key, { row, status: row.dataset.status }]));
  }

  const unsaid = new Map();
  let saying = 0;

  function told(before, after) {
    for (const [key, { row, status }] of after) {
      if (before.get(key)?.status === status || !before.size) continue;
      row.classList.add("changed");
      unsaid.set(key, status);
    }
    if (unsaid.size && !saying) say();
  }

  function say() {
    const all = [...unsaid].map(([key, status]) => `${key}: ${status}`);
    const more = all.length > SAID ? `; and ${all.length - SAID} more changes` : "";
    announce(all.slice(0, SAID).join("; ") + more);
    unsaid.clear();
    saying = setTimeout(() => {
      saying = 0;
      if (unsaid.size) say();
    }, SAY_EVERY_MS);
  }

  function announce(text) {
    document.getElementById("announced").textContent = text;
  }

  // ---- Whether it is current ----

  function show(state, said) {
    if (state === "lost" && freshness.dataset.state !== state) announce(said.split(";")[0]);
    freshness.dataset.state = state;
    const words = document.getElementById("freshness-said");
    if (words.textContent !== said) words.textContent = said;
  }

  function showTime(instant) {
    asOf.dateTime = instant;
    asOf.textContent = instant.slice(11, 19);
  }

  function later(why) {
    wait = Math.min(MOST_MS, wait * 2);
    show("lost", `${why}; as of`);
  }

  async function ask() {
    const answer = await fetch(location.href, {
      headers: tag ? { "If-None-Match": tag } : {},
      cache: "no-store",
      credentials: "same-origin",
      redirect: "manual",
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    if (answer.type === "opaqueredirect" || answer.status === 401 || answer.status === 403) {
      return later("you are let in no more: load the page again");
    }
    const text = await answer.text();
    if (answer.status !== 304) {
      if (!answer.ok) return later(`the server answers ${answer.status}`);
      const made = replaceMain(text);
      if (made) showTime(made.dateTime);
      tag = answer.headers.get("ETag") || "";
    } else {
      const unchanged = Date.parse(answer.headers.get("Last-Modified") || "");
      if (unchanged) showTime(new Date(unchanged).toISOString());
    }
    wait = EVERY_MS;
    show("live", "as of");
  }

  async function round() {
    clearTimeout(timer);
    if (document.hidden) return show("paused", "paused; as of");
    try {
      await ask();
    } catch {
      later("the server cannot be reached");
    }
    clearTimeout(timer);
    timer = setTimeout(round, wait);
  }

  document.addEventListener("visibilitychange", () => {
    wait = EVERY_MS;
    round();
  });
  main.addEventListener("animationend", (event) => event.target.closest(".changed")?.classList.remove("changed"));
  show(document.hidden ? "paused" : "live", "as of");
  timer = setTimeout(round, EVERY_MS);
})();
