// Verifies the lineage of a Conclave key: the certificates of its epochs, and the
// entries between them. It needs Node and no other library.
//
//   node verify-lineage.mjs < lineage.json
//
// lineage.json is a list of certificates in their order, or an object with them as
// "items", such as the answer of GET /v1/keys/{id}/lineage. The exit status is 1 unless all of them hold. Whether the identities
// of the first epoch are those of the people that you mean, and whether the address is
// that of the public key, is not checked here.
import { createHash, createPublicKey, verify as edVerify } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

// Transcripts: numbers are 8 bytes, big-endian; text and bytes follow their length of 4.
const num = (n) => { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(n)); return b; };
const text = (s) => { const b = Buffer.from(s), n = Buffer.alloc(4); n.writeUInt32BE(b.length); return Buffer.concat([n, b]); };
const sha256 = (parts) => createHash("sha256").update(Buffer.concat(parts)).digest();
const hex = (b) => "0x" + b.toString("hex");
const fail = (why) => { throw new Error(why); };
const need = (ok, why) => ok || fail(why);

const base64 = (s, prefix) => {
  need(typeof s === "string" && s.startsWith(prefix), `not a ${prefix}`);
  const b = Buffer.from(s.slice(prefix.length), "base64url");
  need(b.toString("base64url") === s.slice(prefix.length), `not the base64 of a ${prefix}`);
  return b;
};
const signed = (key, message, sig) => edVerify(null, message,
  createPublicKey({ key: Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), key]), format: "der", type: "spki" }), sig);

// An identity: 32 bytes of Ed25519 key, 1216 of sealing key, and the first's signature.
function identity(s) {
  const b = base64(s, "conclave-id1."), id = { sign: b.subarray(0, 32), seal: b.subarray(32, 1248) };
  need(b.length === 1312 && signed(id.sign, Buffer.concat([text("conclave/party/identity/v1"), text(id.sign), text(id.seal)]), b.subarray(1248)), "not an identity");
  return id;
}
const members = (list) => [num(list.length), ...list.flatMap((m) => {
  const id = identity(m.identity);
  return [num(m.part_index), text(m.user_id), text(id.sign), text(id.seal)];
})];
const parent = (p) => p ? [num(p.number), text(Buffer.from(p.hash.slice(2), "hex"))] : [num(0), text("")];

export const epochHash = (e) => sha256([text("conclave/party/epoch/v1"), text(e.key_id), text(e.session_id), text(e.curve), num(e.epoch),
  ...parent(e.parent), num(e.threshold), ...members(e.members), text(e.account_addr), text(e.public_key),
  num((e.points ?? []).length), ...(e.points ?? []).map(text), text(e.origin), text(e.coordinator), text(e.chain_code ?? "")]);
export const entryHash = (e) => sha256([text("conclave/party/entry/v1"), text(e.key_id), text(e.account_addr), text(e.session_id), num(e.number),
  ...parent(e.parent), text(e.type), text(e.user_id ?? ""), text(e.coordinator)]);

// What a reshare request signs; s has what its text form shows.
export const reshareRequest = (r, s) => Buffer.concat([text("conclave/party/request/v2"), text("reshare"), text(r.coordinator), text(r.session_id),
  text(r.key_id), text(r.curve), num(r.epoch), num(r.threshold), ...members(r.members), text(r.account_addr), text(r.parent ?? ""),
  text(s.sign), text(s.seal), num(s.issued), num(s.expires), text(s.nonce)]);
export function signedRequest(s) {
  const b = base64(s, "conclave-req2.");
  need(b.length === 1409, "not a signed request");
  return { sign: b.subarray(0, 32), seal: b.subarray(32, 1248), issued: b.readBigUInt64BE(1312), expires: b.readBigUInt64BE(1320), nonce: b.subarray(1328, 1344), sig: b.subarray(1345) };
}
export const verifyReshare = (r, s) => signed(s.sign, reshareRequest(r, s), s.sig);

// The attestations of a keygen (with their identities), or of an epoch with points.
function attestations(e, list, hash) {
  need(list.length === e.members.length, "not one attestation of each member");
  const keygen = (version) => Buffer.concat([text(`conclave/party/attestation/v${version}`), text(e.session_id), text(e.key_id), text(e.coordinator), text(e.curve),
    ...(version === 1 ? [] : [num(e.epoch)]), num(e.threshold), ...members(e.members), text(e.account_addr), text(Buffer.from(e.public_key.slice(2), "hex"))]);
  list.forEach((a, i) => {
    const m = e.members[i];
    if (e.points) {
      need(signed(identity(m.identity).sign, Buffer.concat([text("conclave/party/attestation/v3"), text(hash)]), base64(a, "conclave-att3.")), `${m.user_id} has not attested this`);
      return;
    }
    const version = a.startsWith("conclave-att1.") ? 1 : 2, b = base64(a, `conclave-att${version}.`);
    need("conclave-id1." + b.subarray(0, 1312).toString("base64url") === m.identity, `${m.user_id} has attested with another identity`);
    need(b.length === 1376 && signed(b.subarray(0, 32), keygen(version), b.subarray(1312)), `${m.user_id} has not attested this`);
  });
}

function checkEpoch(e) {
  const n = e.members.length, users = new Set(e.members.map((m) => m.user_id)), keys = new Set(e.members.map((m) => hex(identity(m.identity).sign)));
  need(e.threshold >= 2 && e.threshold <= n && n <= 256 && users.size === n && keys.size === n, "not a committee");
  need(e.members.every((m, i) => m.part_index === i + 1), "the parts are out of order");
  need(e.points ? e.points.length === n && new Set(e.points).size === n : !e.parent && e.origin === "generated" && e.epoch === 1 && !e.chain_code, "the share points are not those of the members");
  need(e.origin === "generated" || e.origin === "imported", "unknown origin");
  need(e.parent || e.origin === "imported" || e.epoch === 1, "it has no parent");
}

// Signatures by members of a committee, ascending by part.
function signatures(list, committee, prefix, what, message) {
  let last = 0;
  for (const s of list) {
    need(s.part_index > last && s.part_index <= committee.members.length, `${what} out of order`);
    last = s.part_index;
    need(signed(identity(committee.members[last - 1].identity).sign, message, base64(s[what], prefix)), `part ${last}: not its ${what}`);
  }
}

const FIELDS = {
  certificate: ["version", "epoch", "entry", "attestations", "consents", "deletions"],
  epoch: ["key_id", "session_id", "curve", "epoch", "parent", "threshold", "members", "account_addr", "public_key", "points", "origin", "coordinator", "chain_code"],
  entry: ["key_id", "account_addr", "session_id", "number", "parent", "type", "user_id", "coordinator"],
};
const known = (o, kind) => need(Object.keys(o).every((k) => FIELDS[kind].includes(k)), `unknown field of ${kind}`);

// Returns the state of the key after a chain of certificates, or throws.
export function verifyLineage(list) {
  let at;
  for (const one of list) {
    const c = typeof one === "string" ? JSON.parse(one) : one, e = c.epoch ?? c.entry;
    if (typeof one === "string") need(JSON.stringify(c) === one, "not in the form in which it is written");
    need(c.version === 1 && !c.epoch !== !c.entry, "neither epoch nor entry");
    known(c, "certificate"), known(e, c.epoch ? "epoch" : "entry");
    const number = c.epoch ? e.epoch : e.number, hash = c.epoch ? epochHash(e) : entryHash(e), consents = c.consents ?? [];
    if (c.epoch) checkEpoch(e), attestations(e, c.attestations ?? [], hash);
    if (!at) {
      need(c.epoch && !e.parent && !consents.length, "not the first certificate of a key");
      at = { epoch: e, coordinators: [e.coordinator], archived: false, destroyed: false };
    } else {
      const old = at.epoch;
      need(!at.destroyed && e.parent?.number === at.number && e.parent.hash === hex(at.hash) && number > at.number, "it does not follow the one before");
      need(["key_id", "account_addr"].every((k) => e[k] === old[k]), "another key");
      if (c.epoch) need(["curve", "public_key", "origin", "chain_code"].every((k) => e[k] === old[k]), "the key has changed");
      signatures(consents, old, "conclave-con1.", "consent", Buffer.concat([text("conclave/party/consent/v1"), text(e.key_id), num(number), text(hash), ...parent(e.parent)]));
      need(consents.length >= (e.type === "destroy" ? old.members.length : old.threshold), "too few consents");
      need(e.type === "destroy" || !c.deletions, "nothing is deleted");
      signatures(c.deletions ?? [], old, "conclave-del1.", "deletion", Buffer.concat([text("conclave/party/deletion/v1"), text(hash)]));
      const named = at.coordinators.includes(e.user_id);
      if (c.epoch) at = { ...at, epoch: e };
      else if (e.type === "archive" && !at.archived || e.type === "unarchive" && at.archived) at = { ...at, archived: !at.archived };
      else if (e.type === "add_coordinator" && e.user_id && !named) at = { ...at, coordinators: [...at.coordinators, e.user_id].sort() };
      else if (e.type === "remove_coordinator" && named && at.coordinators.length > 1) at = { ...at, coordinators: at.coordinators.filter((u) => u !== e.user_id) };
      else need(e.type === "destroy", "the entry cannot follow"), at = { ...at, destroyed: true };
    }
    at = { ...at, number, hash };
  }
  return at ?? fail("there is no certificate");
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    const input = JSON.parse(readFileSync(0, "utf8")), at = verifyLineage((input.items ?? input).map((c) => c.certificate ?? c));
    console.log(`good  key ${at.epoch.key_id}, epoch ${at.epoch.epoch} of ${at.epoch.threshold} of ${at.epoch.members.length}, ${at.epoch.account_addr}, certificate ${hex(epochHash(at.epoch))}`);
  } catch (e) {
    console.log(`BAD  ${e.message}`);
    process.exitCode = 1;
  }
}
