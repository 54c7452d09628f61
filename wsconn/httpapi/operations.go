package httpapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// operation is one operation of the API: its route, its documentation, and its
// implementation.
type operation struct {
	method, path string // path as both net/http and OpenAPI write it
	open         bool   // needs no token

	id, summary, about string
	params             []*huma.Param
	body               any // of the body's decoded type; nil for none
	ok                 int // status of success
	answer             any // of the answer's type
	stream             bool
	fails              []int // statuses of problems, beside those of all operations that need a token

	most    int64  // bytes of the body; 0 for Config.MaxBytes
	audited string // how a refusal is recorded; empty for not at all
	// do returns the answer; status 0 means already written.
	do func(w http.ResponseWriter, r *http.Request) (status int, body any, err error)
}

const (
	badRequest = http.StatusBadRequest
	noToken    = http.StatusUnauthorized
	forbidden  = http.StatusForbidden
	notFound   = http.StatusNotFound
	conflict   = http.StatusConflict
	tooLarge   = http.StatusRequestEntityTooLarge
	notUsers   = http.StatusUnprocessableEntity
	tooMany    = http.StatusTooManyRequests
	notNow     = http.StatusServiceUnavailable
	noRoom     = http.StatusInsufficientStorage
)

// operations are all of the API's, except the document itself.
func (a *api) operations() []operation {
	ops := a.tasks()
	ops = append(ops, a.readings()...)
	ops = append(ops, a.accounts()...)
	return append(ops, a.administration()...)
}

// tasks are the operations that request a keygen, a signing or a reshare.
func (a *api) tasks() []operation {
	return []operation{{
		method: "POST", path: "/v1/keys", id: "create-key", summary: "Request a key",
		about: "Reserves a key_id for a keygen, to be started with a keygen_request over the WebSocket. With ?start=true it starts the keygen on behalf of the caller. " +
			"Participants that approve automatically require a request signed by the coordinator: pass it as signed_request, " +
			"together with the key_id that it covers. For coordinators.",
		params: []*huma.Param{startParam, waitParam, onceParam}, body: KeyRequest{}, ok: http.StatusCreated, answer: wire.Task{},
		fails: []int{badRequest, forbidden, conflict, tooLarge, notUsers, noRoom}, audited: string(wire.TypeKeygenRequest), most: maxKeyBody, do: a.createKey,
	}, {
		method: "POST", path: "/v1/keys/{key_id}/signatures", id: "create-signature", summary: "Request a signature",
		about: "Reserves a session_id for a signing, to be started with a sign_request over the WebSocket. With ?start=true it starts the signing on behalf of the caller. " +
			"Participants that approve automatically require a request signed by the coordinator: pass it as signed_request, " +
			"together with the session_id, hash and account_addr that it covers. For the key's coordinator and admins.",
		params: []*huma.Param{keyIDParam, startParam, waitParam, onceParam}, body: SignatureRequest{}, ok: http.StatusCreated, answer: wire.Task{},
		fails: []int{badRequest, forbidden, notFound, conflict, tooLarge, noRoom}, audited: string(wire.TypeSignRequest), do: a.createSignature,
	}, {
		method: "POST", path: "/v1/keys/{key_id}/epochs", id: "create-epoch", summary: "Reshare a key",
		about: "Starts a reshare on behalf of the caller: new shares of the key for a committee, which may be the same one (refresh) or another. The key and its address stay the same. " +
			"Participants decline a reshare without the coordinator's signature: pass it as signed_request, together with the session_id that it covers. " +
			"409 while another reshare of the key is open. For the key's coordinator and admins.",
		params: []*huma.Param{keyIDParam, waitEpochParam, onceParam}, body: EpochRequest{}, ok: http.StatusCreated, answer: wire.Task{},
		fails: []int{badRequest, forbidden, notFound, conflict, tooLarge, notUsers, noRoom}, audited: string(wire.TypeReshareRequest), do: a.createEpoch,
	}, {
		method: "DELETE", path: "/v1/sessions/{session_id}", id: "cancel-session", summary: "Cancel a keygen, signing or reshare",
		about:  "For the session's coordinator and admins.",
		params: []*huma.Param{sessionIDParam, reasonParam}, ok: http.StatusOK, answer: wire.SessionInfo{},
		fails: []int{badRequest, forbidden, notFound, conflict}, audited: string(wire.TypeSessionCancel), do: a.cancelSession,
	}, {
		method: "POST", path: "/v1/sessions/{session_id}/webhook", id: "resend-outcome", summary: "Resend an outcome to the webhook",
		about: "For the session's coordinator and admins, while the session is kept. The outcome is sent at once, under the same webhook-id, whether it was accepted before, given up, or is waiting for its next try. " +
			"No body is needed. 404 if --webhook is not set.",
		params: []*huma.Param{sessionIDParam}, ok: http.StatusAccepted, answer: ResendResponse{},
		fails: []int{forbidden, notFound, conflict}, audited: audit.Resend, do: a.resend,
	}}
}

// readings are the operations that read.
func (a *api) readings() []operation {
	return []operation{{
		method: "GET", path: "/v1/keys", id: "list-keys", summary: "List keys",
		about:  "The keys that the caller requested or holds a share of, newest first; for an admin, all keys.",
		params: []*huma.Param{limitParam(maxPageSize, pageSize), cursorParam, beforeParam, keyStateParam}, ok: http.StatusOK, answer: wire.List[wire.KeyInfo]{},
		fails: []int{badRequest}, do: a.listKeys,
	}, {
		method: "GET", path: "/v1/keys/{key_id}", id: "get-key", summary: "Get a key",
		params: []*huma.Param{keyIDParam}, ok: http.StatusOK, answer: wire.KeyInfo{}, fails: []int{notFound}, do: a.getKey,
	}, {
		method: "GET", path: "/v1/keys/{key_id}/epochs", id: "list-epochs", summary: "List the epochs of a key",
		about:  "The committees that the key has had and the one it has, oldest first, as the cluster knows them. For the key's coordinator, who holds or has held a share of it, and admins.",
		params: []*huma.Param{keyIDParam, limitParam(maxPageSize, pageSize), afterEpochParam}, ok: http.StatusOK, answer: wire.List[wire.EpochInfo]{},
		fails: []int{badRequest, notFound}, do: a.listEpochs,
	}, {
		method: "GET", path: "/v1/keys/{key_id}/lineage", id: "get-lineage", summary: "List the certificates of a key",
		about: "What the members of each epoch have signed, oldest first: it proves, without the cluster's word, which committee holds the key (conclave verify --key). " +
			"Empty for a key whose participants' clients attest nothing. For those who may list the key's epochs.",
		params: []*huma.Param{keyIDParam, limitParam(maxLineagePage, lineagePage), afterEpochParam}, ok: http.StatusOK, answer: wire.List[wire.CertificateInfo]{},
		fails: []int{badRequest, notFound}, do: a.lineage,
	}, {
		method: "GET", path: "/v1/sessions", id: "list-sessions", summary: "List keygens, signings and reshares",
		about:  "The sessions that the caller requested or was invited to, newest first, while they are kept; for an admin, all sessions.",
		params: []*huma.Param{limitParam(maxPageSize, pageSize), cursorParam, beforeParam, sessionStateParam, kindParam, ofKeyParam}, ok: http.StatusOK,
		answer: wire.List[wire.SessionInfo]{}, fails: []int{badRequest}, do: a.listSessions,
	}, {
		method: "GET", path: "/v1/sessions/{session_id}", id: "get-session", summary: "Get a keygen, signing or reshare", about: "With ?wait= it answers when the session ends or the time has passed.",
		params: []*huma.Param{sessionIDParam, waitParam}, ok: http.StatusOK, answer: wire.SessionInfo{}, fails: []int{badRequest, notFound}, do: a.getSession,
	}, {
		method: "GET", path: "/v1/sessions/{session_id}/events", id: "session-events", summary: "Follow a keygen, signing or reshare",
		about: "Server-sent events. Each \"session\" event carries the whole session, at the start and after each change, and the session's version as its id; " +
			"several quick changes may be merged into one event. \"outcome\" carries the ended session and is the last event. \"problem\" ends the stream early: the token has become invalid, or the node is shutting down. " +
			"If nothing else is sent, a comment is sent every ten seconds.",
		params: []*huma.Param{sessionIDParam, lastEventParam}, ok: http.StatusOK, stream: true, fails: []int{notFound}, do: a.events,
	}, {
		method: "GET", path: "/v1/nodes", id: "list-nodes", summary: "List the nodes of the cluster", ok: http.StatusOK, answer: wire.List[wire.NodeInfo]{}, do: a.nodes,
	}, {
		method: "GET", path: "/v1/presence/{user}", id: "get-presence", summary: "Get whether a user is connected",
		about:  "For an unknown name the answer is the same as for a user who is not connected.",
		params: []*huma.Param{userParam, fingerprintParam}, ok: http.StatusOK, answer: wire.PresenceInfo{}, fails: []int{notFound}, do: a.presence,
	}}
}

// administration are the operations on tokens, the audit and the node itself.
func (a *api) administration() []operation {
	return []operation{{
		method: "POST", path: "/v1/login", open: true, id: "login", summary: "Log in",
		about: "404 if the cluster accepts only tokens of another issuer.",
		body:  LoginRequest{}, ok: http.StatusOK, answer: LoginResponse{}, fails: []int{badRequest, noToken, notFound, tooLarge, tooMany, notNow}, do: a.login,
	}, {
		method: "POST", path: "/v1/token/refresh", open: true, id: "refresh-token", summary: "Renew a login",
		about: "Exchanges a refresh token for a new token and the next refresh token. Using a refresh token twice ends its login (401), " +
			"since it may have been stolen, unless it is the latest one and the attempt is the same.",
		body: RefreshRequest{}, ok: http.StatusOK, answer: LoginResponse{}, fails: []int{badRequest, noToken, notFound, conflict, tooLarge, tooMany, notNow}, do: a.refresh,
	}, {
		method: "POST", path: "/v1/logout", open: true, id: "logout", summary: "Log out",
		about: "Ends the login of a refresh token and revokes all its tokens; without a refresh token, the token in Authorization and its login. The body may be {}.",
		body:  LogoutRequest{}, ok: http.StatusOK, answer: LogoutResponse{}, fails: []int{badRequest, noToken, notFound, tooLarge, tooMany, notNow}, do: a.logout,
	}, {
		method: "GET", path: "/v1/whoami", id: "whoami", summary: "Get the token's user and roles", ok: http.StatusOK, answer: WhoAmI{}, do: a.whoAmI,
	}, {
		method: "GET", path: "/v1/users/{user}/logins", id: "list-logins", summary: "List a user's renewable logins",
		about:  "For the user and admins.",
		params: []*huma.Param{userParam}, ok: http.StatusOK, answer: wire.List[LoginInfo]{}, fails: []int{forbidden, notFound}, do: a.logins,
	}, {
		method: "POST", path: "/v1/tokens/revoke", id: "revoke-tokens", summary: "Revoke tokens",
		about: "For admins. Give either jti or user. A login_id as jti revokes the login with all its tokens; a token's jti revokes that token, and its login can no longer be renewed.",
		body:  RevokeRequest{}, ok: http.StatusOK, answer: RevokeResponse{}, fails: []int{badRequest, forbidden, tooLarge}, audited: audit.TokenRevoke, most: maxRevokeBody, do: a.revoke,
	}, {
		method: "GET", path: "/v1/audit", id: "read-audit", summary: "List entries of the audit",
		about:  "For admins. Oldest first; a page without items is the last. conclave audit verify checks their integrity.",
		params: []*huma.Param{limitParam(maxAuditPage, auditPage), afterParam}, ok: http.StatusOK, answer: audit.Page{},
		fails: []int{badRequest, forbidden}, audited: audit.AuditRead, do: a.readAudit,
	}, {
		method: "GET", path: "/healthz", open: true, id: "health", summary: "Check that the node is alive", ok: http.StatusOK, answer: Health{}, do: a.healthy,
	}, {
		method: "GET", path: "/readyz", open: true, id: "ready", summary: "Check that the node accepts new clients", ok: http.StatusOK, answer: Health{},
		fails: []int{notNow}, do: a.ready,
	}}
}
