package main

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	kek := strings.Repeat("k", 32)
	env := map[string]string{
		"CONCLAVE_REDIS_FILE":     file("redis", "redis://conclave:hunter2@db:6379/0\n"),
		"CONCLAVE_SHARE_KEK_FILE": file("kek", base64.StdEncoding.EncodeToString([]byte(kek))+"\n"),
		"CONCLAVE_JWT_SECRET":     strings.Repeat("s", 32),
	}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	o := newOptions(&bytes.Buffer{})
	if err := o.parse(nil, lookup); err != nil {
		t.Fatal(err)
	}
	cfg, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Redis != "redis://conclave:hunter2@db:6379/0" || string(cfg.ShareKEK) != kek {
		t.Errorf("got redis %q and kek %q", cfg.Redis, cfg.ShareKEK)
	}
	for _, tc := range []struct {
		name string
		args []string
		says string
	}{
		{"both of a kind", []string{"--redis", "redis://db/0"}, "--redis and --redis-file exclude each other"},
		{"both keks", []string{"--share-kek", "x"}, "--share-kek and --share-kek-file exclude each other"},
		{"no such file", []string{"--redis-file", filepath.Join(dir, "missing")}, "no such file"},
		{"an empty file", []string{"--redis-file", file("empty", "\n")}, "is empty"},
		{"a bad kek", []string{"--share-kek-file", file("short", "c2hvcnQ=")}, "openssl rand -base64 32"},
		{"user add too", []string{"user", "add", "alice", "--role", "admin", "--redis-file", file("bad", "postgres://:hunter2@db/0")}, "unknown scheme"},
	} {
		status, stdout, stderr := try(t, env, "password", tc.args...)
		if status == 0 || !strings.Contains(stderr, tc.says) || strings.Contains(stdout+stderr, "hunter2") {
			t.Errorf("%s: status %d, %s\nwant it to say %q and no secret", tc.name, status, stderr, tc.says)
		}
	}
}
