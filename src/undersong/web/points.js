// The points of the map, drawn by the graphics card, or pixel by pixel where there is none.
//
// Both ways give a function draw(view, look): view has width, height (CSS pixels), ratio, and
// scale, left, top with pixel = left + scale * x and top - scale * y; look has inks (colours such as
// #c2410c), genre (only this one stands out; -1: all) and groups: from, to, size (radius in CSS
// pixels), strength (alpha of a point) and faint (whether none of them stands out).

export const FAINT = 0.16; // share of its strength for what does not stand out
export const MOST_INKS = 10;

const IMITATIONS = /swiftshader|llvmpipe|softpipe|basic render|software/i;

/**
 * Make the function that draws points.
 * @param points x, y, genre, hue (which of the inks): arrays of n numbers
 */
export async function drawer(canvas, points) {
  const gl = hasCard()
    && canvas.getContext("webgl2", { antialias: false, powerPreference: "low-power" });
  canvas.dataset.drawn = gl ? "card" : "pixels";
  if (gl) return (await import("./shader.js")).byCard(gl, points);
  return (await import("./pixels.js")).byPixel(canvas.getContext("2d"), points);
}

/** Whether WebGL means a graphics card: imitated by the processor it is five times slower. */
function hasCard() {
  const gl = document.createElement("canvas").getContext("webgl2");
  const about = gl?.getExtension("WEBGL_debug_renderer_info");
  const name = about ? gl.getParameter(about.UNMASKED_RENDERER_WEBGL) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return Boolean(gl) && !IMITATIONS.test(name);
}

/** Red, green and blue of #rrggbb, in [0, 1]. */
export const shares = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255);
