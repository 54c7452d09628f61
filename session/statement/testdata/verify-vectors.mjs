// Checks verify-lineage.mjs, and lineage.json beside it: lineages that hold, what must be
// refused, and a request to reshare.
import { readFileSync } from "node:fs";
import { epochHash, entryHash, reshareRequest, signedRequest, verifyLineage, verifyReshare } from "./verify-lineage.mjs";

const vectors = JSON.parse(readFileSync(new URL("lineage.json", import.meta.url), "utf8"));
let bad = 0, checks = 0;
const check = (name, ok) => { checks++; if (!ok) { bad++; console.log(`BAD  ${name}`); } };
const holds = (list) => { try { return verifyLineage(list); } catch (e) { return null; } };
const hex = (b) => b.toString("hex");

for (const l of vectors.lineages) {
  const at = holds(l.certificates.map((c) => c.certificate));
  check(l.name, at && at.epoch.epoch === l.epoch && at.archived === l.archived && at.destroyed === l.destroyed && at.coordinators.join() === l.coordinators.join());
  for (const c of l.certificates) {
    const j = JSON.parse(c.certificate);
    check(`${l.name}: hash of ${c.number}`, "0x" + hex(j.epoch ? epochHash(j.epoch) : entryHash(j.entry)) === c.hash);
  }
}
for (const r of vectors.refused) {
  const list = vectors.lineages[r.lineage].certificates.map((c) => c.certificate);
  if (r.from) check(`${r.name}: there is something to change`, list[r.certificate].includes(r.from));
  list[r.certificate] = r.instead ?? list[r.certificate].replace(r.from, () => r.to ?? "");
  check(`${r.name}: accepted`, !holds(r.left_out ? list.filter((_, i) => i !== r.certificate) : list));
}
for (const r of vectors.reshares) {
  const s = signedRequest(r.signed_request);
  check(`${r.name}: statement`, hex(reshareRequest(r.request, s)) === r.statement);
  check(`${r.name}: signature`, verifyReshare(r.request, s));
  check(`${r.name}: another threshold`, !verifyReshare({ ...r.request, threshold: r.request.threshold + 1 }, s));
}
console.log(`${checks} checks, ${bad} bad`);
process.exitCode = bad ? 1 : 0;
