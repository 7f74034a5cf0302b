"use strict";
// The muscles of a scan in space, for report.html. Surfaces are made in the browser from
// the labels of its slices, so that a page of many scans does not grow.

const CORNERS = [0, 1, 2, 3, 4, 5, 6, 7].map(c => [c & 1, c >> 1 & 1, c >> 2]);
const EDGES = CORNERS.flatMap((_, a) => [1, 2, 4].filter(d => !(a & d)).map(d => [a, a + d]));

// Surface net of one label: a point in each cell of 8 voxels that is part inside, then
// smoothed, but by no more than half a voxel, so that thin muscles stay.
function surface(inside, low, high) {
  const size = [0, 1, 2].map(a => high[a] - low[a] + 2), step = [1, size[0], size[0] * size[1]];
  const index = new Int32Array(size[0] * size[1] * size[2]).fill(-1), points = [], cells = [];
  for (let k = 0, cell = 0; k < size[2]; k++) for (let j = 0; j < size[1]; j++) for (let i = 0; i < size[0]; i++, cell++) {
    const at = [low[0] - 1 + i, low[1] - 1 + j, low[2] - 1 + k];
    let mask = 0;
    CORNERS.forEach((c, b) => { if (inside(at[0] + c[0], at[1] + c[1], at[2] + c[2])) mask |= 1 << b; });
    if (mask === 0 || mask === 255) continue;
    const sum = [0, 0, 0]; let n = 0;
    for (const [a, b] of EDGES) if ((mask >> a & 1) !== (mask >> b & 1)) { n++; for (let d = 0; d < 3; d++) sum[d] += (CORNERS[a][d] + CORNERS[b][d]) / 2; }
    index[cell] = points.length; points.push(at.map((v, d) => v + sum[d] / n)); cells.push([cell, mask]);
  }
  const triangles = [], next = points.map(() => []);
  for (const [cell, mask] of cells) for (let a = 0; a < 3; a++) {
    if ((mask & 1) === (mask >> (1 << a) & 1)) continue;
    const u = step[(a + 1) % 3], v = step[(a + 2) % 3];
    const quad = [cell, cell - u, cell - u - v, cell - v].map(c => index[c]);
    if (!(mask & 1)) quad.reverse();
    quad.forEach((p, i) => { next[p].push(quad[(i + 1) % 4]); next[quad[(i + 1) % 4]].push(p); });
    triangles.push(quad[0], quad[1], quad[2], quad[0], quad[2], quad[3]);
  }
  let moved = points;
  for (let turn = 0; turn < 6; turn++) moved = moved.map((p, i) => p.map((v, d) => {
    const mean = next[i].reduce((t, q) => t + moved[q][d], 0) / next[i].length;
    return Math.max(points[i][d] - .5, Math.min(points[i][d] + .5, (v + mean) / 2));
  }));
  return { points: moved, triangles };
}

// Meshes in mm, x to the patient's left, y to the front, z up; around their middle.
function meshes(data, label, muscles) {
  const boxes = {}, n = data.slices.length;
  for (let k = 0; k < n; k++) for (let y = 0; y < data.height; y++) for (let x = 0; x < data.width; x++) {
    const m = label(k, x, y);
    if (!m) continue;
    const b = boxes[m] ||= { low: [x, y, k], high: [x, y, k] };
    [x, y, k].forEach((v, d) => { b.low[d] = Math.min(b.low[d], v); b.high[d] = Math.max(b.high[d], v); });
  }
  const height = k => { const i = Math.max(0, Math.min(n - 2, Math.floor(k))); return n < 2 ? k * data.dz : data.dz * (data.slices[i] + (k - i) * (data.slices[i + 1] - data.slices[i])); };
  const found = [];
  for (const m of muscles) if (boxes[m.label]) {
    const inside = (x, y, k) => k >= 0 && k < n && label(k, x, y) === m.label;
    const { points, triangles } = surface(inside, boxes[m.label].low, boxes[m.label].high);
    triangles.reverse();  // y is turned over below
    found.push({ muscle: m, triangles, points: points.map(([x, y, k]) => [x * data.dx, -y * data.dx * data.aspect, height(k)]) });
  }
  const all = found.flatMap(f => f.points), ends = [0, 1, 2].map(d => all.reduce((e, p) => [Math.min(e[0], p[d]), Math.max(e[1], p[d])], [1e9, -1e9]));
  const middle = ends.map(([a, b]) => (a + b) / 2), radius = Math.hypot(...ends.map(([a, b]) => (b - a) / 2)) || 1;
  for (const f of found) { f.points = f.points.map(p => p.map((v, d) => v - middle[d])); f.normals = normals(f); }
  return { found, radius };
}
function normals({ points, triangles }) {
  const sums = points.map(() => [0, 0, 0]);
  for (let i = 0; i < triangles.length; i += 3) {
    const [a, b, c] = [0, 1, 2].map(j => points[triangles[i + j]]), u = b.map((v, d) => v - a[d]), w = c.map((v, d) => v - a[d]);
    const cross = [u[1] * w[2] - u[2] * w[1], u[2] * w[0] - u[0] * w[2], u[0] * w[1] - u[1] * w[0]];
    for (let j = 0; j < 3; j++) cross.forEach((v, d) => { sums[triangles[i + j]][d] += v; });
  }
  return sums.map(s => { const l = Math.hypot(...s) || 1; return s.map(v => v / l); });
}

// Draws on a canvas; null where the browser has no WebGL 2.
function spaceView(canvas, letters) {
  const gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
  if (!gl) return null;
  const shader = (kind, text) => { const s = gl.createShader(kind); gl.shaderSource(s, "#version 300 es\nprecision highp float;\n" + text); gl.compileShader(s); return s; };
  const program = gl.createProgram();
  gl.attachShader(program, shader(gl.VERTEX_SHADER, "in vec3 p, n; uniform mat3 turn; uniform vec2 scale; uniform float depth; out vec3 m; void main() { vec3 q = turn * p; m = turn * n; gl_Position = vec4(q.xy * scale, -q.z * depth, 1.); }"));
  gl.attachShader(program, shader(gl.FRAGMENT_SHADER, "in vec3 m; uniform vec3 color; out vec4 seen; void main() { vec3 n = normalize(m); float light = .35 + .65 * abs(dot(n, normalize(vec3(-.3, .4, 1.)))); seen = vec4(color * light, 1.); }"));
  gl.linkProgram(program); gl.useProgram(program); gl.enable(gl.DEPTH_TEST); gl.clearColor(0, 0, 0, 1);
  const where = name => gl.getUniformLocation(program, name);
  let parts = [], radius = 1, yaw = -.5, pitch = .2, zoom = 1;
  const draw = () => {
    const ratio = devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
    canvas.width = w * ratio; canvas.height = h * ratio; gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const [c, s, d, t] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    const rows = [[c, -s, 0], [-t * s, -t * c, d], [d * s, d * c, t]];  // right, up, to the viewer
    const fit = zoom * Math.min(.95 * w, 1.5 * h) / radius, scale = [fit / w, fit / h];
    gl.uniformMatrix3fv(where("turn"), false, [0, 1, 2].flatMap(k => rows.map(r => r[k])));
    gl.uniform2fv(where("scale"), scale); gl.uniform1f(where("depth"), .5 / radius);
    for (const part of parts) { gl.bindVertexArray(part.array); gl.uniform3fv(where("color"), part.color); gl.drawElements(gl.TRIANGLES, part.count, gl.UNSIGNED_INT, 0); }
    const far = Math.min(w, h) * .47;
    for (const [letter, way] of [["L", [1, 0, 0]], ["R", [-1, 0, 0]], ["A", [0, 1, 0]], ["P", [0, -1, 0]], ["S", [0, 0, 1]], ["I", [0, 0, -1]]]) {
      const [x, y, z] = rows.map(r => r.reduce((sum, v, k) => sum + v * way[k], 0)), span = letters[letter];
      span.style.left = `${w / 2 + far * x}px`; span.style.top = `${h / 2 - far * y}px`; span.style.opacity = Math.abs(z) > .9 ? 0 : z < -.05 ? .55 : 1;
    }
  };
  const buffer = (kind, values) => { gl.bindBuffer(kind, gl.createBuffer()); gl.bufferData(kind, values, gl.STATIC_DRAW); };
  const fill = scan => {
    parts.forEach(part => gl.deleteVertexArray(part.array));
    radius = scan.radius;
    parts = scan.found.map(f => {
      const array = gl.createVertexArray(); gl.bindVertexArray(array);
      for (const [name, values] of [["p", f.points], ["n", f.normals]]) {
        buffer(gl.ARRAY_BUFFER, new Float32Array(values.flat()));
        const at = gl.getAttribLocation(program, name); gl.enableVertexAttribArray(at); gl.vertexAttribPointer(at, 3, gl.FLOAT, false, 0, 0);
      }
      buffer(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array(f.triangles));
      return { array, count: f.triangles.length, color: f.muscle.color.map(v => v / 255) };
    });
    draw();
  };
  let held = null;
  const turn = (x, y) => { yaw -= x; pitch = Math.max(-1.57, Math.min(1.57, pitch + y)); draw(); };
  canvas.onpointerdown = e => { held = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); };
  canvas.onpointerup = canvas.onpointercancel = () => { held = null; };
  canvas.onpointermove = e => { if (held) { turn(-(e.clientX - held[0]) / 120, (e.clientY - held[1]) / 120); held = [e.clientX, e.clientY]; } };
  canvas.onwheel = e => { e.preventDefault(); zoom = Math.max(.5, Math.min(8, zoom * Math.exp(-e.deltaY / 600))); draw(); };
  return { fill, draw, turn, look: (y, p) => { yaw = y; pitch = p; draw(); }, triangles: () => parts.reduce((t, part) => t + part.count / 3, 0) };
}
