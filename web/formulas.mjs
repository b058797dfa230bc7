// The formulas of the step-by-step view, typeset once by KaTeX and handed to the page as [tag, class, style, attributes, children].
const SOURCES = {
  grad: "g = \\nabla f(p)",
  square: "g^2",
  mean: "v \\leftarrow \\rho\\, v + (1-\\rho)\\, g^2",
  variance: "v \\leftarrow \\rho\\,\\bigl(v + (1-\\rho)(g-m)^2\\bigr)",
  inside: "d = \\sqrt{v + \\varepsilon}",
  outside: "d = \\sqrt{v} + \\varepsilon",
  max: "d = \\max(\\sqrt{v},\\, \\varepsilon)",
  unit: "u = g \\,/\\, d",
  step: "p \\leftarrow p - \\eta\\, u",
  buffer: "p \\leftarrow p - \\eta\\, (\\mu\\, b + u)",
};

class Element {
  constructor(tag) {
    this.tag = tag;
    this.className = "";
    this.style = {};
    this.attributes = {};
    this.children = [];
    this.textContent = "";
  }
  setAttribute(name, value) {
    if (name === "class") this.className = value;
    else this.attributes[name] = value;
  }
  appendChild(child) {
    this.children.push(...(child.tag === "#fragment" ? child.children : [child]));
    return child;
  }
}

function plain(node) {
  if (typeof node === "string") return node;
  return [node.tag, node.className, node.style, node.attributes, node.children.map(plain)];
}

globalThis.document = {
  compatMode: "CSS1Compat",
  createElement: (tag) => new Element(tag),
  createElementNS: (_, tag) => new Element(tag),
  createTextNode: (text) => text,
  createDocumentFragment: () => new Element("#fragment"),
};
const { default: katex } = await import("katex");

export function formulas() {
  return Object.fromEntries(
    Object.entries(SOURCES).map(([name, source]) => {
      const root = new Element("span");
      katex.render(source, root, { strict: "error", throwOnError: true });
      return [name, plain(root)];
    }),
  );
}
