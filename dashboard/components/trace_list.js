// The list of traces, each with its shape. Text is set as text, never as markup.
export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".traces");
  for (const [name, colour] of Object.entries(data.palette)) root.style.setProperty(`--${name}`, colour);
  root.replaceChildren(...data.traces.map((trace) => row(trace, data, (id) => setTriggerValue("selected", id))));
}

function row(trace, data, choose) {
  const button = element("button", "trace");
  button.type = "button";
  button.dataset.trace = trace.id;
  button.onclick = () => choose(trace.id);
  const title = element("span", "title");
  title.append(element("strong", "", trace.service), element("span", "operation", trace.operation));
  const marks = element("span", "marks");
  if (trace.errors) marks.append(element("span", "bad", `■ ${trace.errors}`));
  if (!trace.complete) marks.append(element("span", "warn", "▲ incomplete"));
  if (trace.replayed) marks.append(element("span", "note", "↻ replayed"));
  const shape = element("span", "shape");
  const levels = Math.max(4, 1 + Math.max(0, ...trace.shape.map((span) => span[2])));
  const height = Math.min(5, 26 / levels);
  for (const [left, width, depth, service, failed] of trace.shape) {
    const bar = element("i", failed ? "failed" : "");
    bar.style.left = `${Math.max(0, Math.min(99, left * 100))}%`;
    bar.style.width = `max(1.5px, ${Math.min(100, width * 100)}%)`;
    bar.style.top = `${depth * height}px`;
    bar.style.height = `${Math.max(1, height - 0.8)}px`;
    bar.style.background = data.colours[service];
    shape.append(bar);
  }
  const length = element("span", "length");
  const share = element("i", "");
  share.style.width = `${trace.share * 100}%`;
  length.append(element("b", "", trace.duration), share);
  button.append(element("span", "when", trace.when), title, marks, shape, element("span", "spans", trace.spans), length);
  button.setAttribute("aria-label", `${trace.service} ${trace.operation}, ${trace.duration}, ${trace.spans}, ${trace.errors ? `${trace.errors} errors, ` : ""}at ${trace.when}`);
  return button;
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}
