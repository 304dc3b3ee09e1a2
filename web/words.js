// What the page says of progress, files and times.

const STEPS = {
  read: () => "Reading the file",
  download: ({ done, total }) => `Downloading the networks: ${megabytes(done)} of ${megabytes(total)} MB`,
  load: ({ done, total }) => `Preparing the networks: ${done} of ${total}`,
  stage: ({ done, total }) => (done < total ? `Decoding tokens: stage ${done + 1} of ${total}` : "Checking the tokens"),
  paint: ({ done, total }) => (total > 1 ? `Painting: tile ${Math.min(done + 1, total)} of ${total}` : "Painting"),
};
const MODES = { entire: "all tokens", edge: "edges, half of the tokens", edge_more: "edges, a quarter of the tokens" };

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

/** A line of text, and how much of the step is done, from 0 to 1. */
export function describeProgress(progress) {
  return { text: STEPS[progress.step](progress), share: progress.total ? progress.done / progress.total : 0 };
}

/** Terms and descriptions of a file. */
export function describeFile(header, hash) {
  const { width, height, rows, columns, bytes } = header;
  const raw = 3 * width * height;
  const facts = [
    ["Size", `${bytes.toLocaleString("en")} bytes`],
    ["Rate", `${((8 * bytes) / (width * height)).toFixed(4)} bits per pixel`],
    ["Image", `${width} × ${height} pixels, raw ${Math.round(raw / bytes).toLocaleString("en")} times as large`],
    ["Tokens", `${columns} × ${rows}`],
    ["Sent", MODES[header.mode] + (header.drawn ? `; the others drawn with seed ${header.seed}` : "")],
    ["Prior", header.prior, "code"],
    ["Grid", hash, "code"],
  ];
  return facts.flatMap(([term, text, style]) => [make("dt", term), make("dd", text, style)]);
}

/** Rows of a table of times, with their sum. */
export function describeTimes(times) {
  const sum = times.reduce((total, { milliseconds }) => total + milliseconds, 0);
  const rows = times.map(({ step, milliseconds }) => {
    const meter = Object.assign(make("meter", ""), { max: sum, value: milliseconds, ariaLabel: `share of ${step}` });
    return row(step, [meter], milliseconds);
  });
  const last = row("together", [], sum);
  last.className = "sum";
  return [...rows, last];
}

/** A sentence on what computed all this. */
export function describeBackend({ provider, precision, reason, bundleBytes, threads }, milliseconds) {
  const where = { wasm: "WebAssembly", webgpu: "the graphics card" }[provider];
  const many = threads === 1 ? "one thread" : `${threads} threads`;
  const why = reason ? ` ${reason}` : "";
  return (
    `Tokens by WebAssembly with ${many}, pixels by ${where} in ${precision}.${why} ` +
    `Networks: ${megabytes(bundleBytes)} MB, ready after ${(milliseconds / 1000).toFixed(1)} s.`
  );
}

function row(step, cells, milliseconds) {
  const line = document.createElement("tr");
  const head = Object.assign(make("th", step), { scope: "row" });
  const share = make("td", "");
  share.append(...cells);
  line.append(head, share, make("td", `${milliseconds.toFixed(0)} ms`));
  return line;
}

function make(tag, text, style) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (style) made.className = style;
  return made;
}
