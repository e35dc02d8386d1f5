"use strict";
(() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const one = (id) => document.getElementById(id);

  // Theme: as the system, light, dark. Remembered where the browser allows it.
  const themes = { "": "as the system", light: "light", dark: "dark" };
  const remember = (value) => { try { localStorage.setItem("gru-theme", value); } catch { /* not allowed here */ } };
  const recall = () => { try { return localStorage.getItem("gru-theme") ?? ""; } catch { return ""; } };
  const show = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    one("theme").querySelector("span").textContent = themes[theme];
  };
  let theme = recall() in themes ? recall() : "";
  show(theme);
  one("theme").hidden = false;
  one("theme").addEventListener("click", () => {
    const names = Object.keys(themes);
    theme = names[(names.indexOf(theme) + 1) % names.length];
    remember(theme);
    show(theme);
  });

  // Legends hide and show series in the figures of their section.
  for (const button of all(".legend button")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(on));
      for (const series of all(".series", button.closest("section"))) {
        if (series.dataset.series === button.dataset.shows) series.classList.toggle("off", !on);
      }
    });
  }

  // Tooltips: the titles of marks, at once and near the pointer.
  const tip = one("tip");
  for (const title of all("figure svg title")) {
    title.parentElement.dataset.tip = title.textContent;
    title.remove();
  }
  document.addEventListener("pointermove", (event) => {
    const told = event.target.closest?.("[data-tip]");
    tip.hidden = !told;
    if (!told) return;
    tip.textContent = told.dataset.tip;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - box.width - 4))}px`;
    tip.style.top = `${event.clientY > box.height + 20 ? event.clientY - box.height - 12 : event.clientY + 16}px`;
  });

  // Rows: search, filter by set, sort.
  const body = document.querySelector("#rows tbody");
  if (body) {
    const rows = all("tr", body);
    const texts = new Map(rows.map((row) => [row, row.querySelector(".texts").textContent.toLowerCase()]));
    const filter = () => {
      const words = one("search").value.toLowerCase().split(/\s+/).filter(Boolean);
      const set = one("set").value;
      for (const row of rows) {
        row.hidden = (set !== "" && row.dataset.set !== set) || !words.every((word) => texts.get(row).includes(word));
      }
      const shown = rows.filter((row) => !row.hidden).length;
      one("count").textContent = `${shown} of ${rows.length} rows`;
      cut();
    };
    // On paper: the first rows of each set, of those that are shown, in their order.
    const cut = () => {
      const most = Number(one("rows").dataset.onPaper);
      const places = {};
      let later = 0;
      for (const row of rows.filter((row) => !row.hidden)) {
        const place = places[row.dataset.set] = (places[row.dataset.set] ?? 0) + 1;
        row.classList.toggle("later", place > most);
        later += place > most;
      }
      one("left-off").querySelector("span").textContent = later;
      one("left-off").hidden = !later;
    };
    one("controls").hidden = false;
    one("search").addEventListener("input", filter);
    one("set").addEventListener("input", filter);
    filter();
    for (const button of all("#rows th button")) {
      button.addEventListener("click", () => {
        const head = button.closest("th");
        const column = [...head.parentElement.children].indexOf(head);
        const numeric = button.dataset.sort === "number";
        const first = numeric ? "descending" : "ascending";
        const other = numeric ? "ascending" : "descending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        for (const cell of head.parentElement.children) cell.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const value = (row) => row.children[column].dataset.value;
        const compare = (a, b) => {
          if (value(a) === "" || value(b) === "") return (value(a) === "") - (value(b) === ""); // unknown ones last
          return sign * (numeric ? value(a) - value(b) : value(a).localeCompare(value(b)));
        };
        body.append(...rows.sort(compare));
        cut();
      });
    }
  }

  // Copy the command.
  if (navigator.clipboard) {
    const copy = one("copy");
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(one("command").textContent);
        copy.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(one("command"));
        copy.textContent = "Selected: copy with the keyboard";
      }
    });
  }

  // Tables that are wider than the window say so.
  const mark = () => {
    for (const wide of all(".wide")) wide.classList.toggle("cut", wide.scrollWidth > wide.clientWidth + 1);
  };
  mark();
  addEventListener("resize", mark);
  document.addEventListener("toggle", mark, true);
})();
