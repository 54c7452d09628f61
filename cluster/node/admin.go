package node

import (
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/node/metrics"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// listenAdmin opens the admin listener, if configured.
func (n *Node) listenAdmin() (err error) {
	if n.cfg.AdminAddr == "" {
		return nil
	}
	if n.adminListener, err = net.Listen("tcp", n.cfg.AdminAddr); err != nil {
		return fmt.Errorf("listen on %s for the admin listener: %w", n.cfg.AdminAddr, err)
	}
	return nil
}

// AdminAddr is the address of the admin listener, "" if there is none.
func (n *Node) AdminAddr() string {
	if n.adminListener == nil {
		return ""
	}
	return n.adminListener.Addr().String()
}

// assembleAdmin makes the admin listener's server, which is for operators only,
// never for clients. Health is answered by the web API's own handler.
func (n *Node) assembleAdmin(web http.Handler) {
	if n.adminListener == nil {
		return
	}
	profiles := http.NewServeMux()
	profiles.HandleFunc("/debug/pprof/", pprof.Index)
	profiles.HandleFunc("/debug/pprof/profile", pprof.Profile)
	profiles.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	profiles.HandleFunc("/debug/pprof/trace", pprof.Trace)
	// Not cmdline, which would show a secret given there.
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", n.metrics.Handler())
	mux.Handle("/debug/pprof/", onlyLocal(profiles))
	mux.Handle("GET /healthz", web)
	mux.Handle("GET /readyz", web)
	n.admin = &http.Server{
		Handler: n.onlyHosts(mux), ReadHeaderTimeout: headerWithin, ReadTimeout: bodyWithin, WriteTimeout: answerWithin, IdleTimeout: answerWithin,
		MaxHeaderBytes: headerBytes, ErrorLog: stdlog.New(httpLog{n.log}, "", 0),
	}
}

// onlyHosts answers requests that name this listener as their Host: by an IP
// address, as localhost, by the name in AdminAddr, or by one of AdminHosts. A web
// page in a browser that can reach the listener sends the page's own host, even
// after that name has been made to resolve to this machine (DNS rebinding); since
// the listener is unauthenticated, nothing else would keep the page from reading
// metrics and, on the same machine, profiles. A request without a Host (HTTP/1.0)
// is not a browser's.
func (n *Node) onlyHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !n.cfg.adminHost(r.Host) {
			auth.WriteProblem(w, wire.Errorf(wire.CodeForbidden, "the admin listener does not accept this host name; see --admin-hosts"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// adminHost reports whether the admin listener accepts a request's Host.
func (cfg *Config) adminHost(host string) bool {
	name := hostName(host)
	if name == "" || name == "localhost" || name == hostName(cfg.AdminAddr) {
		return true
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return slices.ContainsFunc(cfg.AdminHosts, func(allowed string) bool { return hostName(allowed) == name })
}

// hostName returns a host, or host:port, in its form for comparison.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// onlyLocal answers only requests from this machine: a profile takes time, and
// reveals what the process does, so opening the admin listener for a remote
// Prometheus must not expose it too. (kubectl port-forward and ssh -L connect from
// this machine.)
func onlyLocal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !from.Addr().Unmap().IsLoopback() {
			auth.WriteProblem(w, wire.Errorf(wire.CodeForbidden, "profiles are served to this machine only"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// runAdmin serves until Stop.
func (n *Node) runAdmin() {
	if n.admin == nil {
		return
	}
	if at, err := netip.ParseAddrPort(n.AdminAddr()); err != nil || !at.Addr().Unmap().IsLoopback() {
		n.log.Warn().Str("address", n.AdminAddr()).Msg("the admin listener is reachable from other machines and is unauthenticated")
	}
	n.running.Go(func() error {
		if err := n.admin.Serve(n.adminListener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the admin listener: %w", err)
		}
		return nil
	})
}

// closeAdmin ends the admin listener at once: a profile may take long.
func (n *Node) closeAdmin() error {
	switch {
	case n.adminListener == nil:
		return nil
	case n.cancel == nil: // not started
		return n.adminListener.Close()
	}
	return n.admin.Close()
}

// watch gives the metrics their sources.
func (n *Node) watch(l limits) {
	if n.metrics == nil {
		return
	}
	sources := metrics.Sources{
		Open: n.sockets.Count, Registered: n.sockets.Registered, MaxConnections: n.cfg.MaxConnections, Ready: n.Ready, Pool: n.pool, Memory: n.memory.known, ClockOffset: n.cluster.ClockOffset,
		Limited: map[string]func() uint64{
			"messages": l.messages.Refused, "bytes": l.bytes.Refused, "requests": l.requests.Refused, "registers": l.registers.Refused,
			"login_account": func() uint64 { accounts, _ := l.logins.Refused(); return accounts },
			"login_address": func() uint64 { _, addresses := l.logins.Refused(); return addresses },
		},
	}
	if n.webhook != nil {
		sources.Webhook = n.webhook.Waiting
	}
	n.metrics.Watch(sources)
}

// pool adds up the connections to Redis.
func (n *Node) pool() (sum metrics.Pool) {
	clients := []redis.UniversalClient{n.rdb}
	if n.durable != n.rdb {
		clients = append(clients, n.durable)
	}
	for _, c := range clients {
		s := c.PoolStats()
		sum.Idle += int(s.IdleConns)
		sum.Used += int(s.TotalConns) - int(s.IdleConns)
		sum.Timeouts += uint64(s.Timeouts)
	}
	return sum
}
