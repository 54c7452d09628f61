package metrics

import (
	"errors"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-mpc/conclave/cluster"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Types are the values of the label type: clients' types, and misused ones.
var Types = []wire.Type{
	wire.TypeRegister, wire.TypeKeygenRequest, wire.TypeKeygenResponse, wire.TypeKeygenComplete,
	wire.TypeSignRequest, wire.TypeSignResponse, wire.TypeSignResult, wire.TypeAck, wire.TypeTSSMessage,
	wire.TypePartyFailed, wire.TypeSessionCancel, wire.TypePing, wire.TypePong,
	wire.TypeReshareRequest, wire.TypeReshareResponse, wire.TypeReshareComplete, wire.TypeReshareConsent, wire.TypeCertificateGet, unknownType,
}

const unknownType wire.Type = "unknown"

// resultOK is the value of the label result for accepted messages; the others are
// the codes of package wire.
const resultOK = "ok"

// codes are those of package wire.
var codes = map[wire.Code]bool{
	wire.CodeBadRequest: true, wire.CodeUnknownType: true, wire.CodeTooLarge: true, wire.CodeNotRegistered: true,
	wire.CodeUnauthenticated: true, wire.CodeTokenExpired: true, wire.CodeForbidden: true, wire.CodeNotFound: true,
	wire.CodeConflict: true, wire.CodeAmbiguous: true, wire.CodeSessionEnded: true, wire.CodeInvalidSignature: true,
	wire.CodeShareNotSealed: true, wire.CodeMailboxFull: true, wire.CodeQuotaExceeded: true, wire.CodeRateLimited: true,
	wire.CodeUnavailable: true, wire.CodeStorageFull: true, wire.CodeUnknownUser: true, wire.CodeInternal: true,
}

const other = "other"

// closeReasons are the values of the label reason of closed sockets. A client may
// send any code; codes not listed here are "other".
var closeReasons = map[int]string{
	websocket.CloseNormalClosure: "normal", websocket.CloseGoingAway: "going_away", websocket.CloseAbnormalClosure: "abnormal",
	websocket.CloseNoStatusReceived: "no_status", websocket.CloseMessageTooBig: "too_big", websocket.CloseInternalServerErr: "internal",
	wire.CloseSuperseded: "superseded", wire.CloseTokenExpired: "token_expired", wire.CloseSlow: "slow", wire.CloseUnavailable: "unavailable",
	wire.CloseNotRegister: "not_registered", wire.CloseBadToken: "bad_token", wire.CloseAbuse: "abuse", wire.CloseForbidden: "forbidden",
	wire.CloseRevoked: "revoked",
}

func (m *Metrics) newSockets() {
	m.messages = m.counters("messages_total", `Messages from clients, by type and by error code, or "ok".`, "type", "result")
	took := m.histograms("message_duration_seconds", "Time from reading a message to queueing its answer.", fast, "type")
	m.ofType = make(map[wire.Type]messageMeter)
	for _, t := range Types {
		m.ofType[t] = messageMeter{m.messages.WithLabelValues(string(t), resultOK), took.WithLabelValues(string(t))}
	}
	m.ofUnknown = m.ofType[unknownType]
	delete(m.ofType, unknownType) // never sent by a client
	m.relayLag = m.histogram("relay_lag_seconds",
		"Time from sending a message to a mailbox, on any node, to writing it to the socket, for connected recipients.", fast)
	m.turnedAway = m.counter("queue_full_total", "Mailbox frames that were retried because the queue of the socket was full.")
	closed := m.counters("connections_closed_total", "Closed sockets, by close code.", "reason")
	m.closed = make(map[string]prometheus.Counter)
	for _, reason := range closeReasons {
		m.closed[reason] = closed.WithLabelValues(reason)
	}
	m.closed[other] = closed.WithLabelValues(other)
}

// Handled implements wsconn.Observer.
func (m *Metrics) Handled(t wire.Type, refused wire.Code, took time.Duration) {
	meter, known := m.ofType[t]
	if !known {
		meter, t = m.ofUnknown, unknownType
	}
	meter.took.Observe(took.Seconds())
	if refused == "" {
		meter.ok.Inc()
		return
	}
	if !codes[refused] {
		refused = other
	}
	m.messages.WithLabelValues(string(t), string(refused)).Inc()
}

// Written implements wsconn.Observer.
func (m *Metrics) Written(_ []byte, sent time.Time) {
	if !sent.IsZero() {
		m.relayLag.Observe(max(time.Since(sent), 0).Seconds())
	}
}

// TurnedAway implements wsconn.Observer.
func (m *Metrics) TurnedAway() { m.turnedAway.Inc() }

// Closed implements wsconn.Observer.
func (m *Metrics) Closed(code int) {
	reason, known := closeReasons[code]
	if !known {
		reason = other
	}
	m.closed[reason].Inc()
}

func (m *Metrics) newMailboxes() {
	depth := m.histograms("mailbox_depth_messages",
		`Messages in a mailbox after an append ("append"), and messages read at once for a socket that was behind ("drain").`, counts, "at")
	m.appended, m.drained = depth.WithLabelValues("append"), depth.WithLabelValues("drain")
	refused := m.counters("mailbox_refused_total",
		`Messages that a mailbox refused: it was full ("full"), or the user who caused the message had used up its share of the mailbox ("share") or the allowance of one session ("session").`, "reason")
	m.mailboxFull, m.shareUsed, m.groupFull = refused.WithLabelValues("full"), refused.WithLabelValues("share"), refused.WithLabelValues("session")
}

// Appended implements cluster.Observer.
func (m *Metrics) Appended(depth int) { m.appended.Observe(float64(depth)) }

// Refused implements cluster.Observer.
func (m *Metrics) Refused(why error) {
	switch {
	case errors.Is(why, cluster.ErrShareUsed):
		m.shareUsed.Inc()
	case errors.Is(why, cluster.ErrGroupFull):
		m.groupFull.Inc()
	default:
		m.mailboxFull.Inc()
	}
}

// Drained implements cluster.Observer.
func (m *Metrics) Drained(entries int) { m.drained.Observe(float64(entries)) }
