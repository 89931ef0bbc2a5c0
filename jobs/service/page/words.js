// Figures in words: ages, durations, scores, counts.

const UNITS = [["d", 86_400], ["h", 3_600], ["min", 60]];

/** "3 h", "12 min"; what is under a minute is "less than a minute". */
export function age(seconds) {
  const [unit, size] = UNITS.find(([, size]) => seconds >= size) ?? [null, 1];
  return unit === null ? "less than a minute" : `${Math.floor(seconds / size)} ${unit}`;
}

export function milliseconds(ms) {
  return ms < 10 ? `${ms.toFixed(1)} ms` : ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** Four figures: scores of a fusion are near 0.03, those of words near 10. */
export function score(value) {
  const size = Math.abs(value);
  return size === 0 ? "0" : size >= 1000 ? value.toFixed(0) : value.toFixed(size >= 1 ? 3 - Math.floor(Math.log10(size)) : 4);
}

export const whole = (value) => value.toLocaleString("en");

export const count = (number, one, many = `${one}s`) => `${whole(number)} ${number === 1 ? one : many}`;

/** A value of metadata as one line of text. */
export function value(of) {
  return typeof of === "string" ? of : JSON.stringify(of);
}

export const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);
