package tracing

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// environment reads the OTEL_EXPORTER_OTLP_… variables that OpenTelemetry defines
// (https://opentelemetry.io/docs/specs/otel/protocol/exporter/). An
// OTEL_EXPORTER_OTLP_TRACES_… of the same kind takes precedence. An unusable
// variable is reported by its name, never by its value, and ignored.
type environment struct {
	getenv func(string) string
	warn   func(variable string, err error)
}

// lookUp returns the effective variable of that kind, and its name.
func (e environment) lookUp(kind string) (value, name string) {
	for _, prefix := range []string{"OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"} {
		if value := strings.TrimSpace(e.getenv(prefix + kind)); value != "" {
			return value, prefix + kind
		}
	}
	return "", ""
}

// gzip reports whether requests are compressed.
func (e environment) gzip() bool {
	value, name := e.lookUp("COMPRESSION")
	if value != "" && value != "none" && value != "gzip" {
		e.warn(name, errors.New("want gzip or none"))
	}
	return value == "gzip"
}

// headers returns those of HEADERS: comma-separated name=value pairs, the values
// percent-encoded. Often one is a password.
func (e environment) headers() http.Header {
	list, variable := e.lookUp("HEADERS")
	headers := http.Header{}
	for pair := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(value)
		value = strings.TrimSpace(value)
		if !found || err != nil || !validHeader(name, value) {
			e.warn(variable, errors.New("want name=value,name=value with percent-encoded values"))
			continue
		}
		headers.Set(name, value)
	}
	return headers
}

// validHeader reports whether a header's name is a token and its value has no
// control characters (RFC 9110 section 5).
func validHeader(name, value string) bool {
	const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	control := func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }
	return name != "" && strings.Trim(name, token) == "" && !strings.ContainsFunc(value, control)
}

// tls returns the configuration from CERTIFICATE (the collector's CA),
// CLIENT_CERTIFICATE and CLIENT_KEY, all PEM files; nil if none is set.
func (e environment) tls() *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if file, name := e.lookUp("CERTIFICATE"); file != "" {
		roots := x509.NewCertPool()
		text, err := os.ReadFile(file)
		if err == nil && !roots.AppendCertsFromPEM(text) {
			err = errors.New("the file has no certificate in PEM")
		}
		if err == nil {
			cfg.RootCAs = roots
		} else {
			e.warn(name, err)
		}
	}
	certificate, name := e.lookUp("CLIENT_CERTIFICATE")
	key, _ := e.lookUp("CLIENT_KEY")
	if certificate != "" && key != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err == nil {
			cfg.Certificates = []tls.Certificate{pair}
		} else {
			e.warn(name, err)
		}
	}
	if cfg.RootCAs == nil && cfg.Certificates == nil {
		return nil
	}
	return cfg
}
