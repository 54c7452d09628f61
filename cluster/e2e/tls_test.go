package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

// authority issues certificates for 127.0.0.1.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string // its certificate, PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.file = filepath.Join(a.dir, "ca.pem")
	der, key := a.make(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	})
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.key = key
	a.write(a.file, "CERTIFICATE", der)
	return a
}

func (a *authority) make(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

// write replaces a file atomically.
func (a *authority) write(file, kind string, der []byte) {
	a.t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		a.t.Fatal(err)
	}
}

// issue writes a certificate and its key, for a server and a client alike.
func (a *authority) issue(name string, serial int64) (cert, key string) {
	a.t.Helper()
	der, private := a.make(&x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+"-key.pem")
	a.write(key, "PRIVATE KEY", pkcs8)
	a.write(cert, "CERTIFICATE", der)
	return cert, key
}

func (a *authority) trust() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// TestListenerTLS serves over TLS and changes its certificate while a client is
// connected; invalid files change nothing.
func TestListenerTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.issue("server", 2)
	mini := redistest.StartMini(t)
	logs := &lockedBuffer{}
	log := zerolog.New(logs)
	cfg := node.Config{
		Listen: "127.0.0.1:0", Redis: "redis://" + mini.Addr() + "/0", NodeID: "n1", JWTSecret: []byte(testSecret),
		TLSCert: cert, TLSKey: key, DrainSpread: time.Millisecond, Log: &log,
	}
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	serial := func() int64 {
		t.Helper()
		conn, err := tls.Dial("tcp", n.Addr(), a.trust())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 2 {
		t.Errorf("serial %d, want 2", got)
	}
	old := a.trust()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if conn, err := tls.Dial("tcp", n.Addr(), old); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.1 is spoken")
	}

	// The SDK logs in and connects over wss, only if it trusts the server.
	if err := node.AddUser(context.Background(), cfg, "alice", testPassword, []string{"coordinator"}, false); err != nil {
		t.Fatal(err)
	}
	urls := []string{"https://" + n.Addr()}
	api, err := rest.New(rest.Config{URLs: urls, TLS: a.trust()})
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	token, err := api.Login(context.Background(), "alice", testPassword)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{URLs: urls, Token: client.StaticToken(token.Secret), TLS: a.trust()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rest.Login(context.Background(), urls[0], "alice", testPassword); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("logged in at a server of an unknown authority: %v", err)
	}

	a.issue("server", 3)
	eventually(t, "the new certificate is served", func() bool { return serial() == 3 })
	good, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	told := func(text string) bool { return strings.Contains(logs.String(), text) }
	if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the fault is logged", func() bool { return told("TLS certificate not replaced") })
	if got := serial(); got != 3 {
		t.Errorf("serial %d while the key is not good, want 3", got)
	}
	otherCert, _ := a.issue("other", 4)
	text, err := os.ReadFile(otherCert)
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{cert: text, key: good} { // a pair that does not match
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "that they do not go together is logged", func() bool { return told("does not match") })
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the absence is logged", func() bool { return told("no such file") })
	if got := serial(); got != 3 {
		t.Errorf("serial %d without a certificate, want 3", got)
	}
	a.issue("server", 5)
	eventually(t, "the certificate after that is served", func() bool { return serial() == 5 })

	// The client that was connected before all that still is.
	if err := c.Close(); err != nil {
		t.Errorf("the client had stopped: %v", err)
	}
	for _, secret := range []string{testPassword, string(good), token.Secret} {
		if told(secret) {
			t.Error("the log repeats a secret")
		}
	}
}

// TestRedisTLS connects to a real server that requires TLS and a certificate, alone
// and as a cluster.
func TestRedisTLS(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	serverCert, serverKey := a.issue("redis", 2)
	cert, key := a.issue("node", 3)
	for name, scheme := range map[string]string{"standalone": "rediss", "cluster": "rediss+cluster"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addr := l.Addr().String()
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
			args := []string{"--tls-port", port, "--tls-cert-file", serverCert, "--tls-key-file", serverKey, "--tls-ca-cert-file", a.file, "--tls-auth-clients", "yes"}
			if name == "cluster" {
				args = append(args, "--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-announce-ip", "127.0.0.1") // which a certificate names
			}
			server := redistest.StartRedis(t, args...)
			if name == "cluster" {
				plain, ok := server.Client(t).(*redis.Client)
				if !ok || plain.ClusterAddSlotsRange(t.Context(), 0, 16383).Err() != nil {
					t.Fatal("no cluster")
				}
				eventually(t, "the cluster is up", func() bool {
					return strings.Contains(plain.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
				})
			}
			good := node.Config{Redis: scheme + "://" + addr, RedisPrefix: redistest.Prefix(), RedisCA: a.file, RedisCert: cert, RedisKey: key}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := node.AddUser(ctx, good, "alice", testPassword, []string{"participant"}, false); err != nil {
				t.Fatal(err)
			}
			list, err := node.ListUsers(ctx, good)
			if err != nil || len(list) != 1 || list[0].User != "alice" {
				t.Errorf("got %v, %v", list, err)
			}
			cfg := good
			cfg.Listen, cfg.NodeID, cfg.JWTSecret, cfg.DrainSpread = "127.0.0.1:0", "n1", []byte(testSecret), time.Millisecond
			n, err := node.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the node is ready", func() bool { return n.Ready(ctx) == nil })
			if err := n.Stop(ctx); err != nil {
				t.Error(err)
			}
			if name == "standalone" {
				badRedisTLS(t, good, key, serverKey, stranger.file)
			}
		})
	}
}

// badRedisTLS spoils a good configuration so that no connection succeeds.
func badRedisTLS(t *testing.T, good node.Config, key, otherKey, otherCA string) {
	for what, change := range map[string]func(*node.Config){
		"an unknown authority":    func(c *node.Config) { c.RedisCA = otherCA },
		"no authority of its own": func(c *node.Config) { c.RedisCA = "" },
		"no certificate to show":  func(c *node.Config) { c.RedisCert, c.RedisKey = "", "" },
		"half a certificate":      func(c *node.Config) { c.RedisKey = "" },
		"a key of another":        func(c *node.Config) { c.RedisKey = otherKey },
		"a file that is none":     func(c *node.Config) { c.RedisCA = key },
		"files and no TLS":        func(c *node.Config) { c.Redis = strings.Replace(c.Redis, "rediss", "redis", 1) },
		"no TLS to a port with TLS": func(c *node.Config) {
			*c = node.Config{Redis: strings.Replace(c.Redis, "rediss", "redis", 1)}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			bad := good
			change(&bad)
			if err := node.AddUser(t.Context(), bad, "bob", testPassword, []string{"participant"}, false); err == nil {
				t.Error("connected")
			}
		})
	}
}
