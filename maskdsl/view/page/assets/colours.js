// Colours of the map in light and dark.

const LEVELS = 64;

class Colours {
  constructor(palettes, theme) {
    const { empty, full, partial, undrawn, text, rank_shades: ranks } = palettes[theme], dark = theme === "dark";
    Object.assign(this, { empty, full, ramp: partial, undrawn, ranks, ink: text });
    this.masked = mixed(this.empty, this.ramp[0], dark ? 0.5 : 0.42);
    this.idle = mixed(this.empty, this.ink, dark ? 0.22 : 0.16);
    this.levels = Array.from({ length: LEVELS }, (_, level) => packed(this.shade(level / (LEVELS - 1))));
    this.words = { empty: packed(this.empty), full: packed(this.full), masked: packed(this.masked), idle: packed(this.idle), ranks: this.ranks.map(packed) };
    const style = getComputedStyle(document.documentElement);
    for (const name of ["card", "text", "quiet", "line", "mark", "accent"]) this[name] = style.getPropertyValue(`--${name}`);
  }

  /** The colour of a partial cell, from few pairs (0) to all (1). */
  shade(share) {
    const position = share * (this.ramp.length - 1), left = Math.min(Math.floor(position), this.ramp.length - 2);
    return mixed(this.ramp[left], this.ramp[left + 1], position - left);
  }

  /** The 32-bit colour of a pixel: the shares that full and partial tiles cover, and the share of attended pairs. The
   * square root of that share is shown, which keeps thin lines of a large pattern visible. */
  pixel(full, partial, share) {
    if (full > 0.999) return this.words.full;
    if (full + partial < 1e-6) return this.words.empty;
    if (share === 0) return this.words.masked;
    return this.levels[Math.round(Math.sqrt(share) * (LEVELS - 1))];
  }

  /** As `pixel`, by ranks: pairs that attend have the colour of this number. */
  rankPixel(full, partial, share, number) {
    if (full + partial < 1e-6) return this.words.empty;
    return share === 0 ? this.words.idle : this.words.ranks[number];
  }
}

const mixed = (a, b, share) => a.map((each, at) => Math.round(each + (b[at] - each) * share));
const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
const css = (colour, alpha = 1) => `rgb(${colour.join(" ")} / ${alpha})`;
