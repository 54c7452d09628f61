package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// parts are the scripted clients of one key.
type parts struct {
	coordinator *seedClient
	p           [4]*seedClient // by part index; 0 is unused
	key         *fakeKey
	keyID       string
}

var partNames = [4]string{"", "参与方1", "bob@example.org", "carol-3"}

// gatherParts connects a coordinator and three participants, each to another node if
// there are enough.
func gatherParts(t *testing.T, c *testCluster) *parts {
	t.Helper()
	g := &parts{key: newFakeKey(t), keyID: "treasury.1"}
	g.coordinator = c.client("alice", wire.RoleCoordinator).connect(c.nodes[0])
	for i := 1; i <= 3; i++ {
		g.p[i] = c.client(partNames[i], wire.RoleParticipant).connect(c.nodes[i%len(c.nodes)])
	}
	return g
}

func plainShare(i int) string { return fmt.Sprintf(`{"secret":"PLAINSHARE-%d"}`, i) }

func (g *parts) request() {
	g.coordinator.send("keygen_request", object{
		"key_id": g.keyID, "threshold": 2, "total_parts": 3, "participants": partNames[1:],
	})
}

func (g *parts) keygen(t *testing.T) {
	t.Helper()
	g.request()
	for i := 1; i <= 3; i++ {
		got := g.p[i].expect("keygen_invite")
		for field, want := range (object{"key_id": g.keyID, "threshold": 2.0, "total_parts": 3.0, "part_index": float64(i)}) {
			if got[field] != want {
				t.Errorf("keygen_invite.%s = %v, want %v", field, got[field], want)
			}
		}
		g.p[i].send("keygen_response", object{"key_id": g.keyID, "part_index": i, "response": true})
	}
	for i := 1; i <= 3; i++ {
		got := g.p[i].expect("keygen_params")
		if got["part_index"] != float64(i) || got["output_file"] == "" {
			t.Errorf("keygen_params = %v", got)
		}
		g.complete(i)
	}
	g.confirmed(t)
}

func (g *parts) complete(i int) {
	g.p[i].send("keygen_complete", object{
		"key_id": g.keyID, "part_index": i, "account_addr": g.key.address, "share_json": plainShare(i),
	})
}

func (g *parts) confirmed(t *testing.T) {
	t.Helper()
	got := g.coordinator.expect("keygen_confirm")
	if got["status"] != "success" || got["account_addr"] != g.key.address || got["key_id"] != g.keyID {
		t.Fatalf("keygen_confirm = %v", got)
	}
}

// sign runs a signing by two of the parts.
func (g *parts) sign(t *testing.T, data string, a, b int) {
	t.Helper()
	g.coordinator.send("sign_request", object{
		"key_id": g.keyID, "data": data, "account_addr": g.key.address, "participants": []string{partNames[a], partNames[b]},
	})
	for _, i := range []int{a, b} {
		got := g.p[i].expect("sign_invite")
		if got["data"] != data || got["part_index"] != float64(i) || got["account_addr"] != g.key.address {
			t.Errorf("sign_invite = %v", got)
		}
		g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": true})
	}
	for _, i := range []int{a, b} {
		g.signParams(t, data, i, fmt.Sprintf("%d,%d", a, b))
	}
	for _, i := range []int{a, b} {
		g.p[i].send("sign_result", object{"key_id": g.keyID, "part_index": i, "signature": g.key.sign(t, data)})
	}
	g.signed(t, data)
}

func (g *parts) signParams(t *testing.T, data string, i int, participants string) {
	t.Helper()
	got := g.p[i].expect("sign_params")
	want := object{"key_id": g.keyID, "data": data, "part_index": float64(i), "participants": participants, "share_json": plainShare(i)}
	for field := range want {
		if diff := cmp.Diff(want[field], got[field]); diff != "" {
			t.Errorf("sign_params.%s (-want +got):\n%s", field, diff)
		}
	}
}

func (g *parts) signed(t *testing.T, data string) {
	t.Helper()
	got := g.coordinator.expect("sign_complete")
	want := object{"key_id": g.keyID, "status": "success", "signature": g.key.sign(t, data), "data": data, "account_addr": g.key.address}
	for field := range want {
		if got[field] != want[field] {
			t.Errorf("sign_complete.%s = %v, want %v", field, got[field], want[field])
		}
	}
}

var withKEK = []string{"--share-kek", testKEK}

func TestSeedProtocol(t *testing.T) {
	t.Parallel()
	eachCluster(t, 3, withKEK, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.keygen(t)
		g.sign(t, "pay bob 5", 1, 3)
		g.sign(t, "0xec098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a764000080018080", 2, 3)

		// A wrong signature is not forwarded, its sender is told, and the right one
		// of the other signer is.
		g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": "again", "account_addr": g.key.address, "participants": partNames[1:3]})
		for i := 1; i <= 2; i++ {
			g.p[i].expect("sign_invite")
			g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": true})
		}
		for i := 1; i <= 2; i++ {
			g.signParams(t, "again", i, "1,2")
		}
		g.p[1].send("sign_result", object{"key_id": g.keyID, "part_index": 1, "signature": newFakeKey(t).sign(t, "again")})
		g.p[1].expectError(wire.CodeInvalidSignature)
		if n := g.coordinator.count("sign_complete"); n != 2 {
			t.Errorf("%d signings are complete after a wrong signature, want 2", n)
		}
		g.p[2].send("sign_result", object{"key_id": g.keyID, "part_index": 2, "signature": g.key.sign(t, "again")})
		g.signed(t, "again")
		if n := g.coordinator.count("sign_complete"); n != 3 {
			t.Errorf("%d outcomes of 3 signings", n)
		}
		g.noSecrets(t, c)
	})
}

// noSecrets searches for shares and tokens in Redis and in the nodes' logs.
func (g *parts) noSecrets(t *testing.T, c *testCluster) {
	t.Helper()
	secrets := []string{"PLAINSHARE", testSecret, testKEK, g.coordinator.token}
	for _, p := range g.p[1:] {
		secrets = append(secrets, p.token, strings.Split(p.token, ".")[2])
	}
	stored := c.everything()
	if len(stored) == 0 {
		t.Error("nothing is in Redis")
	}
	for _, secret := range secrets {
		for key, content := range stored {
			if strings.Contains(content, secret) {
				t.Errorf("%s holds a secret: %.12s…", key, secret)
			}
		}
		if strings.Contains(c.logs.String(), secret) {
			t.Errorf("the log holds a secret: %.12s…", secret)
		}
	}
}

func TestPlainShareNeedsKEK(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, nil, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.request()
		for i := 1; i <= 3; i++ {
			g.p[i].expect("keygen_invite")
			g.p[i].send("keygen_response", object{"key_id": g.keyID, "part_index": i, "response": true})
		}
		for i := 1; i <= 3; i++ {
			g.p[i].expect("keygen_params")
		}
		g.complete(1)
		e := g.p[1].expectError(wire.CodeShareNotSealed)
		if text := fmt.Sprint(e["error"]); !strings.Contains(text, "CONCLAVE_SHARE_KEK") {
			t.Errorf("the error does not say what to do: %s", text)
		}
		told := g.coordinator.expect("keygen_confirm")
		if reason := fmt.Sprint(told["reason"]); told["status"] != "failed" || !strings.Contains(reason, "CONCLAVE_SHARE_KEK") || told["culprits"] != nil {
			t.Errorf("the coordinator is told %v", told)
		}

		// The same by clients that seal their shares.
		g.request()
		for i := 1; i <= 3; i++ {
			g.p[i].expect("keygen_invite")
			g.p[i].send("keygen_response", object{"key_id": g.keyID, "part_index": i, "response": true})
		}
		for i := 1; i <= 3; i++ {
			g.p[i].expect("keygen_params")
		}
		const armor = "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n"
		for i := 1; i <= 3; i++ {
			g.p[i].send("keygen_complete", object{
				"key_id": g.keyID, "part_index": i, "account_addr": g.key.address, "share_json": fmt.Sprintf(`{"sealed":%q}`, armor),
			})
		}
		g.confirmed(t)
	})
}
