package main

import (
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

// declareSecretFiles declares the flags that name files with secrets: a process's
// environment and command line are easier to read than a file.
func (o *options) declareSecretFiles() {
	o.flags.StringVar(&o.redisFile, "redis-file", "", "`file` with the URL of Redis, instead of --redis, for a URL that contains a password")
	o.flags.StringVar(&o.shareKEKFile, "share-kek-file", "", "`file` with the share key-encryption key")
}

// readSecretFiles reads the secrets from the files. It runs once the flags are
// parsed, so that every user of Redis finds the URL.
func (o *options) readSecretFiles() error {
	for _, s := range []struct {
		name, file string
		into       *string
	}{{"redis", o.redisFile, &o.cfg.Redis}, {"share-kek", o.shareKEKFile, &o.shareKEK}} {
		if s.file == "" {
			continue
		}
		given := false
		o.flags.Visit(func(f *flag.Flag) { given = given || f.Name == s.name })
		if given {
			return misuse("--%s and --%[1]s-file exclude each other", s.name)
		}
		text, err := os.ReadFile(s.file)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if *s.into = strings.TrimSpace(string(text)); *s.into == "" {
			return fmt.Errorf("%s: %s is empty", s.name, s.file)
		}
	}
	return nil
}

// webhookSecrets reads secrets, one a line: whsec_ and base64, as in Standard
// Webhooks, or the bytes themselves.
func webhookSecrets(text string) ([][]byte, error) {
	var all [][]byte
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		one := []byte(line)
		if encoded, ok := strings.CutPrefix(line, "whsec_"); ok {
			var err error
			if one, err = base64.StdEncoding.DecodeString(encoded); err != nil {
				return nil, errors.New("the text after whsec_ is not base64")
			}
		}
		all = append(all, one)
	}
	return all, nil
}
