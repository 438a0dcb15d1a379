// Usage: node validate.mjs FILE.glb... - prints one JSON array with the Khronos validator's report per file.
import { readFile } from "node:fs/promises";
import { validateBytes } from "gltf-validator";

const reports = [];
for (const path of process.argv.slice(2)) {
  const bytes = new Uint8Array(await readFile(path));
  const report = await validateBytes(bytes, { uri: path, maxIssues: 50 });
  reports.push({ file: path, issues: report.issues, info: report.info });
}
process.stdout.write(JSON.stringify(reports));
