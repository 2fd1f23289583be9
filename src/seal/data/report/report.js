"use strict";
(() => {
  function stops() { // only what scrolls needs the keyboard
    for (const box of document.querySelectorAll(".wide")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }
  addEventListener("resize", stops);
  document.addEventListener("toggle", stops, true);
  stops();
  const search = document.getElementById("search"), phase = document.getElementById("phase");
  const order = document.getElementById("order"), found = document.getElementById("found");
  if (!search) return;
  const lists = [...document.querySelectorAll(".phase")].map(box => {
    const problems = [...box.querySelectorAll(".problem")];
    return { box, list: box.querySelector(".list"), problems, texts: problems.map(one => one.textContent.toLowerCase()) };
  });
  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { box, problems, texts } of lists) {
      box.hidden = box.dataset.phase !== phase.value;
      let count = 0;
      problems.forEach((one, at) => {
        one.hidden = !words.every(word => texts[at].includes(word));
        count += !one.hidden;
      });
      if (!box.hidden) found.textContent = `${count} of ${problems.length}`;
    }
  }
  function sort() { // what earned nothing that could be measured is last either way
    for (const { list, problems } of lists) {
      const measured = problems.filter(one => one.querySelector(".earned").textContent.trim() !== "–");
      list.append(...(order.value === "best" ? problems : [...measured].reverse().concat(problems.filter(one => !measured.includes(one)))));
    }
  }
  search.addEventListener("input", show);
  phase.addEventListener("change", show);
  order.addEventListener("change", sort);
  document.addEventListener("keydown", event => {
    const typing = /^(input|select|textarea)$/i.test(event.target.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) { event.preventDefault(); search.focus(); }
    if (event.key === "Escape" && event.target === search) { search.value = ""; show(); }
  });
  let closed = [];
  addEventListener("beforeprint", () => { // paper cannot be opened
    closed = [...document.querySelectorAll(".problem:not([open])")]; // of each only the edits that are open, or it is a book
    closed.forEach(one => { one.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach(one => { one.open = false; }));
  show();
})();
