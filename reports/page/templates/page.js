"use strict";
// what the page does beside being read; without it the figures and the first rows of all tables stand as they are
const every = (what, inside = document) => [...inside.querySelectorAll(what)];
const make = (tag, more, ...inside) => {
  const made = Object.assign(document.createElement(tag), more);
  made.append(...inside);
  return made;
};
const large = document.getElementById("large");
const enlarge = inside => { large.lastElementChild.replaceWith(inside); large.showModal(); };
large.onclick = event => { if (event.target === large) large.close(); };

// light and dark; a browser may refuse to remember
const scheme = document.getElementById("scheme"), stored = act => { try { return act(localStorage); } catch { return null; } };
scheme.value = stored(kept => kept.getItem("scheme")) || "light dark";
scheme.onchange = () => {
  document.documentElement.style.colorScheme = scheme.value;
  stored(kept => kept.setItem("scheme", scheme.value));
};
scheme.onchange();
scheme.parentElement.hidden = false;

// contents: the current section is marked; folded where there is no room beside the text
const contents = document.querySelector(".contents details"), sections = every("main section[id]");
const mark = () => {
  const now = sections.findLast(one => one.getBoundingClientRect().top < innerHeight / 3) ?? sections[0];
  for (const link of every("a", contents)) link.ariaCurrent = link.getAttribute("href") === `#${now.id}` ? "true" : null;
};
if (contents) {
  const narrow = matchMedia("(max-width: 999px)"), fold = () => { contents.open = !narrow.matches; };
  narrow.onchange = fold;
  contents.onclick = event => { if (event.target.closest("a")) fold(); };
  addEventListener("scroll", mark, { passive: true });
  fold(); mark();
}

// figures open large; a slider shows their frames
for (const picture of every(".figures .picture")) {
  const open = make("button", { type: "button", className: "open" }), image = picture.querySelector("img");
  picture.replaceWith(open);
  open.append(picture);
  open.onclick = () => enlarge(make("img", { src: image.src, alt: image.alt }));
}
for (const data of every("script.frames")) {
  const image = data.parentElement.querySelector("img"), reading = image.alt;
  const frames = [{ label: "overview", uri: image.src }, ...JSON.parse(data.textContent)], label = make("output");
  const slider = make("input", { type: "range", max: frames.length - 1, value: 0, ariaLabel: "Frame of the figure" });
  slider.oninput = () => {
    const frame = frames[slider.value];
    Object.assign(image, { src: frame.uri, alt: slider.value > 0 ? `${reading} Here: ${frame.label}.` : reading });
    image.nextElementSibling.hidden = slider.value > 0;  // values under the pointer are those of the first
    label.textContent = slider.ariaValueText = frame.label;
  };
  slider.oninput();
  data.before(make("div", { className: "slide" }, slider, label));
}

// tables: all rows, sorted and filtered, columns to choose, all digits, and copies of what is seen
const number = cell => /^-?(inf|\d{16,})$/.test(cell) ? Number(String(cell).replace("inf", "Infinity")) : cell;
const short = value => value.toPrecision(4).replace(/^[^e]+/, digits => Number(digits));
const text = (cell, kind) => cell === null ? "–" : kind === "float" && cell.toPrecision ? short(cell) : String(cell);
const compare = (a, b) => a.toPrecision && b.toPrecision ? a - b : String(a).localeCompare(String(b));
const order = (a, b, way) => a === null || b === null
  ? ((a === null) - (b === null)) * (way === "asc" ? 1 : -1)  // what is missing comes last both ways
  : number(a) === number(b) ? 0 : compare(number(a), number(b));
const bounds = { "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b };
const fits = (asked, cell) => {
  const [, sign, limit] = /^\s*([<>]=?|=)\s*(-?[\d.]+(?:e[-+]?\d+)?)\s*$/i.exec(asked) ?? [];
  if (sign) return cell !== null && bounds[sign](number(cell), Number(limit));
  return text(cell).toLowerCase().includes(asked.toLowerCase());
};
const signs = { "\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "~": "\\textasciitilde{}", "–": "--", "<": "$<$", ">": "$>$", "|": "$|$" };
const latex = cell => cell.replace(/[\\{}$&#^_%~–<>|]/g, sign => signs[sign] ?? `\\${sign}`).replace(/\s+/g, " ");
const markdown = cell => cell.replace(/[\\|<>*_`\[\]]/g, "\\$&").replace(/\s+/g, " ");
const rule = (kinds, words, numbers) => kinds.map(kind => kind === "text" ? words : numbers);
const copies = {
  LaTeX: (head, rows, kinds) => {
    const [top, ...body] = [head, ...rows].map(row => `${row.map(latex).join(" & ")} \\\\`);
    const begin = `\\begin{tabular}{${rule(kinds, "l", "r").join("")}}`;
    return [begin, "\\toprule", top, "\\midrule", ...body, "\\bottomrule", "\\end{tabular}"].join("\n");
  },
  Markdown: (head, rows, kinds) => [head.map(markdown), rule(kinds, "---", "---:"), ...rows.map(row => row.map(markdown))]
    .map(row => `| ${row.join(" | ")} |`).join("\n"),
  pandas: (head, rows, kinds, file) => `pd.read_parquet(${JSON.stringify(file)})`,
};
const copy = (button, written) => {
  const hand = () => enlarge(make("textarea", { value: written, readOnly: true, ariaLabel: "To copy" }));
  const done = () => {
    const name = button.textContent;
    button.textContent = "copied";
    setTimeout(() => { button.textContent = name; }, 1500);
  };
  navigator.clipboard ? navigator.clipboard.writeText(written).then(done, hand) : hand();
};
const enliven = block => {
  const { columns, rows } = JSON.parse(block.querySelector("script.data").textContent);
  const place = make("div"), whole = make("input", { type: "checkbox" }), summary = make("summary");
  const told = (cell, { kind }) => text(cell, whole.checked ? "" : kind);
  const settled = (column, at) => ({
    field: `c${at}`, title: column.name, visible: column.first, cssClass: column.kind, resizable: false, maxInitialWidth: 320,
    titleFormatter: () => make("button", { type: "button", textContent: column.name, title: `Sort by ${column.name}` }),
    formatter: cell => make("span", { textContent: told(cell.getValue(), column), title: text(cell.getValue()) }),
    sorter: (a, b, first, second, of, way) => order(a, b, way),
    ...rows.length > 5 && {
      headerFilter: "input", headerFilterFunc: fits, headerFilterPlaceholder: column.kind === "text" ? "filter" : "> …",
      headerFilterParams: { elementAttributes: { "aria-label": `Filter ${column.name}` } },
    },
  });
  block.append(make("div", { className: "tools" }), place);
  block.classList.add("live");
  const table = new Tabulator(place, {
    data: rows.map(row => Object.fromEntries(row.map((cell, at) => [`c${at}`, cell]))),
    columns: columns.map(settled), nestedFieldSeparator: false, layout: "fitDataTable", maxHeight: "430px",
  });
  const seen = () => columns.flatMap((column, at) => table.getColumn(`c${at}`).isVisible() ? [{ ...column, at: `c${at}` }] : []);
  const count = () => { summary.textContent = `Columns: ${seen().length} of ${columns.length}`; };
  const boxes = columns.map(({ name, first }, at) => make("label", {}, make("input", {
    type: "checkbox", checked: first, onchange: () => { table.toggleColumn(`c${at}`); table.redraw(); count(); },
  }), ` ${name}`));
  whole.onchange = () => { table.getRows().forEach(row => row.reformat()); table.redraw(true); };
  const buttons = Object.entries(copies).map(([name, write]) => {
    const written = () => {
      const cells = table.getData("active").map(row => seen().map(column => told(row[column.at], column)));
      return write(seen().map(column => column.name), cells, seen().map(column => column.kind), block.dataset.file);
    };
    const button = make("button", { type: "button", textContent: name, title: `Copy as ${name}` });
    button.onclick = () => copy(button, written());
    return button;
  });
  table.on("tableBuilt", count);
  const choice = make("details", { className: "choice" }, summary, make("div", {}, ...boxes));
  block.querySelector(".tools").append(choice, make("label", {}, whole, " all digits"), "Copy as", ...buttons);
};
every(".table").forEach(enliven);

// print: all that is folded is open
const fold = (one, open) => { one.open = open; one.toggleAttribute("data-folded", open); };
addEventListener("beforeprint", () => every("main details:not([open])").forEach(one => fold(one, true)));
addEventListener("afterprint", () => every("[data-folded]").forEach(one => fold(one, false)));
