// Verifies what Conclave signs, with libraries that know nothing of it: ethers for
// Ethereum, @noble/curves and Node's own crypto for ed25519.
//
//   npm install
//   conclave sign KEY --data 'Pay 5 ether to Bob' -json | node verify.mjs
//
// It reads results of `conclave sign -json`, one or several, and says of each
// whether it is good; the exit status is 1 if one is not. With "unsigned" and a
// recipient it prints the data of an EIP-1559 transaction, for conclave to sign.
import { createPublicKey, verify as nodeVerify } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { ed25519 } from "@noble/curves/ed25519.js";
import { Signature, Transaction, encodeBase58, getBytes, parseEther, recoverAddress, toUtf8Bytes, verifyMessage } from "ethers";

// What was signed, as bytes: 0x is hex, anything else is text.
const bytes = (data) => (data.startsWith("0x") ? getBytes(data) : toUtf8Bytes(data));

// personal_sign (hash "eip191"): the address that the signature recovers.
export const personalMessage = (s) => verifyMessage(bytes(s.data), s.signature);

// An unsigned transaction (hash "keccak256") with its signature put in: what a
// node of Ethereum would be sent. Its sender is read back out of that.
export function transaction(s) {
  const tx = Transaction.from(s.data);
  tx.signature = Signature.from(s.signature);
  const sent = Transaction.from(tx.serialized);
  return sent.isSigned() ? sent.from : null;
}

// A digest that was signed as it is (hash "none").
export const digest = (s) => recoverAddress(s.data, s.signature);

// ed25519: two verifiers, one of which is not JavaScript. The address is the
// public key in base58.
export function edwards(s) {
  const [key, message, signature] = [getBytes(s.public_key), bytes(s.data), getBytes(s.signature)];
  const spki = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), key]);
  const nodes = nodeVerify(null, message, createPublicKey({ key: spki, format: "der", type: "spki" }), signature);
  const nobles = ed25519.verify(signature, message, key);
  if (nodes !== nobles) throw new Error("the two verifiers disagree");
  return nodes ? encodeBase58(key) : null;
}

// Whether a result of `conclave sign -json` is good.
export function verify(s) {
  const how = s.curve === "ed25519" ? edwards : { eip191: personalMessage, keccak256: transaction, none: digest }[s.hash];
  if (!how) throw new Error(`no verifier for ${s.curve} with hash ${s.hash}`);
  try {
    return how(s) === s.account_addr;
  } catch {
    return false; // not a signature at all
  }
}

// The data of a transaction of type 2, unsigned.
export const unsigned = (to) =>
  Transaction.from({
    type: 2, chainId: 1, nonce: 7, to, value: parseEther("0.5"), gasLimit: 21000,
    maxFeePerGas: 30_000_000_000n, maxPriorityFeePerGas: 1_000_000_000n,
  }).unsignedSerialized;

function main(args) {
  if (args[0] === "unsigned") {
    console.log(unsigned(args[1]));
    return 0;
  }
  const text = readFileSync(0, "utf8");
  const parsed = JSON.parse(text);
  let bad = 0;
  for (const s of Array.isArray(parsed) ? parsed : [parsed]) {
    const good = verify(s);
    console.log(`${good ? "good" : "BAD"}  ${s.curve} ${s.hash}  ${s.account_addr}`);
    if (!good) bad++;
  }
  return bad ? 1 : 0;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) process.exitCode = main(process.argv.slice(2));
