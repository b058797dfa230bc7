// Sliders with a number field beside them: one value, two ways to set it.
import { clamp, h } from "./dom";

export interface Scale {
  low: number;
  high: number;
  /** From the slider's 0..1 to the value and back. */
  value(part: number): number;
  part(value: number): number;
}

const round = (value: number, digits = 3) => Number(value.toPrecision(digits));

/** Even in the logarithm; with `zero`, the left end is 0. */
export function logarithmic(low: number, high: number, zero = false): Scale {
  const span = Math.log10(high / low);
  return {
    low: zero ? 0 : low,
    high,
    value: (part) => (zero && part <= 0 ? 0 : round(low * 10 ** (part * span))),
    part: (value) => (value <= 0 ? 0 : clamp(Math.log10(value / low) / span, 0, 1)),
  };
}

export function linear(low: number, high: number, digits = 3): Scale {
  return {
    low,
    high,
    value: (part) => round(low + part * (high - low), digits),
    part: (value) => clamp((value - low) / (high - low), 0, 1),
  };
}

/** Even in the logarithm of the memory 1 / (1 - rho), from 1 to 10,000 steps. */
export const memory: Scale = {
  low: 0,
  high: 1,
  value: (part) => (part <= 0 ? 0 : Number((1 - 10 ** (-4 * part)).toFixed(part > 0.72 ? 5 : part > 0.48 ? 4 : 3))),
  part: (value) => (value >= 1 ? 1 : clamp(-Math.log10(1 - value) / 4, 0, 1)),
};

let count = 0;

export function numberField(
  label: string,
  value: number,
  scale: Scale,
  set: (value: number) => void,
  options: { whole?: boolean; title?: string; name?: string } = {},
): HTMLElement {
  count += 1;
  const id = `field-${count}`;
  const slider = h("input", {
    type: "range",
    min: "0",
    max: "1000",
    step: "1",
    "aria-label": `${label}, slider`,
    "data-name": options.name ?? label,
  });
  const field = h("input", {
    type: "number",
    step: "any",
    id,
    class: "number",
    "data-name": options.name ?? label,
  });
  const showSlider = (to: number) => {
    slider.value = String(Math.round(1000 * scale.part(to)));
    slider.style.setProperty("--done", `${100 * scale.part(to)}%`);
    slider.setAttribute("aria-valuetext", String(to));
  };
  field.value = String(value);
  showSlider(value);
  slider.addEventListener("input", () => {
    let to = scale.value(Number(slider.value) / 1000);
    if (options.whole) to = Math.round(to);
    field.value = String(to);
    slider.style.setProperty("--done", `${Number(slider.value) / 10}%`);
    slider.setAttribute("aria-valuetext", String(to));
    set(to);
  });
  field.addEventListener("input", () => {
    const to = Number(field.value);
    if (field.value === "" || !Number.isFinite(to)) return;
    showSlider(to);
    set(options.whole ? Math.round(to) : to);
  });
  return h("div", { class: "field", title: options.title }, h("label", { for: id }, label), slider, field);
}

export function choice(
  label: string,
  value: string,
  options: [string, string][],
  set: (value: string) => void,
  name = label,
): HTMLElement {
  count += 1;
  const id = `field-${count}`;
  const select = h(
    "select",
    { id, "data-name": name },
    ...options.map(([key, text]) => h("option", { value: key }, text)),
  );
  select.value = value;
  select.addEventListener("change", () => set(select.value));
  return h("div", { class: "field choice" }, h("label", { for: id }, label), select);
}

export function flag(label: string, value: boolean, set: (value: boolean) => void, name = label): HTMLElement {
  const box = h("input", { type: "checkbox", checked: value, "data-name": name });
  box.addEventListener("change", () => set(box.checked));
  return h("label", { class: "flag" }, box, label);
}
