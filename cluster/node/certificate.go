package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const certificateEvery = 2 * time.Second // how often the files are checked

// certificate is the listener's, reloaded when its files change. A socket keeps the
// one it was opened with.
type certificate struct {
	certFile, keyFile string
	every             time.Duration
	log               *zerolog.Logger

	current atomic.Pointer[tls.Certificate]
	seen    [2][]byte // the files' content when last read; accessed only by load's caller
}

// loadCertificate reads both files, which must match.
func loadCertificate(certFile, keyFile string, log *zerolog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, every: certificateEvery, log: log}
	if _, err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// load reads the files, and adopts their certificate if they have changed and are
// valid. It reports whether it did.
func (c *certificate) load() (bool, error) {
	var read [2][]byte
	for i, file := range []string{c.certFile, c.keyFile} {
		var err error
		if read[i], err = os.ReadFile(file); err != nil {
			return false, fmt.Errorf("load TLS certificate: %w", err)
		}
	}
	if bytes.Equal(read[0], c.seen[0]) && bytes.Equal(read[1], c.seen[1]) {
		return false, nil
	}
	c.seen = read
	pair, err := tls.X509KeyPair(read[0], read[1])
	if err != nil {
		return false, fmt.Errorf("load TLS certificate: %w", err)
	}
	c.current.Store(&pair)
	return true, nil
}

// run checks the files until ctx ends. While they are invalid, the last valid
// certificate stays, and each new fault is logged once.
func (c *certificate) run(ctx context.Context) error {
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		changed, err := c.load()
		switch {
		case err != nil && err.Error() != told:
			told = err.Error()
			c.log.Error().Err(err).Msg("TLS certificate not replaced")
		case changed:
			told = ""
			leaf := c.current.Load().Leaf
			c.log.Info().Time("not_after", leaf.NotAfter).Str("serial", leaf.SerialNumber.Text(16)).Msg("TLS certificate replaced")
		}
	}
}

// serverConfig serves the current certificate.
func (c *certificate) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

func (cfg *Config) loadTLS() error {
	if cfg.TLSCert == "" && cfg.TLSKey == "" {
		return nil
	}
	if cfg.TLSCert == "" || cfg.TLSKey == "" {
		return errors.New("TLS needs both a certificate and a key")
	}
	var err error
	cfg.certificate, err = loadCertificate(cfg.TLSCert, cfg.TLSKey, cfg.Log)
	return err
}
