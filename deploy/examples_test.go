package deploy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const examples = "examples/js"

// installed skips or fails the test if `npm install` has not been run in
// examples/js; a test downloads nothing by itself.
func installed(t *testing.T, module string) string {
	t.Helper()
	path := filepath.Join(examples, "node_modules", module)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CONCLAVE_REQUIRE_REAL") == "1" {
			t.Fatalf("%v and CONCLAVE_REQUIRE_REAL=1: run npm install in deploy/%s", err, examples)
		}
		t.Skipf("%v: run npm install in deploy/%s", err, examples)
	}
	return path
}

// TestPackagesArePinned requires exact versions in package.json: there is no lock
// file.
func TestPackagesArePinned(t *testing.T) {
	t.Parallel()
	var manifest struct{ Dependencies, DevDependencies map[string]string }
	if err := json.Unmarshal([]byte(read(t, examples+"/package.json")), &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest.Dependencies) == 0 {
		t.Error("there are no dependencies")
	}
	for _, set := range []map[string]string{manifest.Dependencies, manifest.DevDependencies} {
		for name, version := range set {
			if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(version) {
				t.Errorf("%s is %s, want one version", name, version)
			}
		}
	}
}

// TestOtherLibrariesVerify has real parties sign, two of three, and common
// JavaScript libraries verify their signatures.
func TestOtherLibrariesVerify(t *testing.T) {
	t.Parallel()
	node := need(t, "node")
	installed(t, "ethers")
	run := func(stdin []byte, args ...string) (string, error) {
		t.Helper()
		cmd := exec.Command(node, append([]string{examples + "/verify.mjs"}, args...)...)
		cmd.Stdin = bytes.NewReader(stdin)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if stderr.Len() > 0 {
			t.Errorf("verify.mjs %v says: %s", args, stderr.String())
		}
		return strings.TrimSpace(string(out)), err
	}
	committee, shares := partytest.Key(t)
	unsigned, err := run(nil, "unsigned", shares[0].Public().AccountAddr)
	if err != nil || !strings.HasPrefix(unsigned, "0x02") {
		t.Fatalf("an unsigned EIP-1559 transaction: %q, %v", unsigned, err)
	}
	ed := partytest.NewCommittee(t, 3)
	edShares := ed.Keygen(t, pubkey.Ed25519, 2)
	signed := []client.Signature{
		sign(t, committee, shares, "Pay 5 ether to Bob"), sign(t, committee, shares, "付给参与方 5"), sign(t, committee, shares, unsigned),
		sign(t, committee, shares, pubkey.Encode(bytes.Repeat([]byte{7}, 32))),
		sign(t, ed, edShares, "Pay 5 to Bob"), sign(t, ed, edShares, "0x00ff"),
	}
	judge := func(s any) (string, error) {
		t.Helper()
		in, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return run(in)
	}
	out, err := judge(signed)
	if err != nil || strings.Count(out, "good  ") != len(signed) || strings.Contains(out, "BAD") {
		t.Errorf("signatures by Conclave: %v\n%s", err, out)
	}
	// They must also reject: another signature, other data, a changed bit.
	var spoiled []client.Signature
	for i, s := range signed {
		raw, err := pubkey.Decode(s.Signature)
		if err != nil {
			t.Fatal(err)
		}
		raw[40] ^= 1
		changed, other := s, s
		changed.Signature = pubkey.Encode(raw)
		// The neighbour in each pair is of the same kind, or is not, and is another's.
		other.Signature = signed[(i+1)%len(signed)].Signature
		spoiled = append(spoiled, changed, other)
	}
	out, err = judge(spoiled)
	if err == nil || strings.Count(out, "BAD  ") != len(spoiled) {
		t.Errorf("spoiled signatures: %v\n%s", err, out)
	}
}

// sign returns the output of `conclave sign -json` for a signature by two of three.
func sign(t *testing.T, c *partytest.Committee, shares []*share.Share, data string) client.Signature {
	t.Helper()
	public := shares[0].Public()
	digest, hash, err := pubkey.Digest(public.Curve, data, "")
	if err != nil {
		t.Fatal(err)
	}
	return client.Signature{
		KeyID: public.KeyID, Curve: public.Curve, AccountAddr: public.AccountAddr, PublicKey: public.PublicKey, Data: data, Hash: hash,
		Digest: pubkey.Encode(digest), Signature: pubkey.Encode(c.Sign(t, shares, []int{1, 3}, digest)[1]),
	}
}

// TestAsyncAPIIsOne checks the protocol's document against AsyncAPI's own schema.
func TestAsyncAPIIsOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(installed(t, "@asyncapi/specs"), "schemas", "3.0.0-without-$id.json")
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	schema, err := c.Compile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(wire.AsyncAPI()))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("asyncapi.json: %.3000v", err)
	}
	operations, _ := doc.(map[string]any)["operations"].(map[string]any)
	delete(operations["receive_register"].(map[string]any), "action")
	if schema.Validate(doc) == nil {
		t.Error("the schema takes an operation without an action")
	}
}
