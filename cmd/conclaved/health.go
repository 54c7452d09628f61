package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"
)

// healthWithin is how long a node may take to report that it is ready.
const healthWithin = 5 * time.Second

// health is "conclaved health": it requests /readyz from the node that runs with the
// same flags and environment, on the same machine. Images without a shell and curl
// check themselves with it.
func health(args []string, env func(string) (string, bool), stdout, stderr io.Writer) error {
	o := newOptions(stderr)
	if err := o.parse(args, env); err != nil {
		return err
	}
	if o.flags.NArg() > 0 {
		return misuse("unexpected argument %q", o.flags.Arg(0))
	}
	host, port, err := net.SplitHostPort(o.cfg.Listen)
	if err != nil {
		return misuse("--listen: %s", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost" // the node listens on every address
	}
	scheme := "http"
	if o.cfg.TLSCert != "" {
		scheme = "https"
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, healthWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	// The node's certificate is for the name its clients use. The request contains
	// nothing that an impostor on this machine could use.
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("the node does not answer: %w", err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the node is not ready: /readyz returned %s", response.Status)
	}
	fmt.Fprintln(stdout, "ready")
	return nil
}
