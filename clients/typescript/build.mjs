// Build dist/: an ES module and a CommonJS module. Each is one file, with its declarations beside it.
import { execFileSync } from "node:child_process";
import { cpSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

rmSync("dist", { recursive: true, force: true });
const common = { entryPoints: ["src/index.ts"], bundle: true, target: "es2022", sourcemap: true, logLevel: "warning" };
await build({ ...common, format: "esm", outfile: "dist/esm/index.js" });
await build({ ...common, format: "cjs", platform: "neutral", outfile: "dist/cjs/index.js" });
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "--outDir", "dist/esm"], { stdio: "inherit" });
cpSync("dist/esm", "dist/cjs", { recursive: true, filter: (path) => !/\.js(\.map)?$/.test(path) });
writeFileSync("dist/esm/package.json", '{ "type": "module" }\n');
writeFileSync("dist/cjs/package.json", '{ "type": "commonjs" }\n');
