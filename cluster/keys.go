package cluster

import (
	"unicode"
	"unicode/utf8"
)

// keys builds every name this package gives to Redis. Ids stand in braces, so that
// Redis Cluster keeps the keys of one member, one node or one session in one slot.
type keys struct{ prefix string }

// node is a hash: address, version, started_at, connections, draining.
// TTL: Config.LeaseTTL. Written and renewed by that node; read by every node.
func (k keys) node(id string) string { return k.prefix + "node:{" + id + "}" }

// nodes is a sorted set: node id by the time of its last heartbeat, in ms.
// TTL: none; every node adds itself and removes those whose record is gone.
func (k keys) nodes() string { return k.prefix + "nodes" }

// presence is a hash: node, conn, role, since, seq, at, acked.
// TTL: none; written by the node that holds the member's socket and removed by
// it on leave; void when that node's record is gone. Read by every append.
func (k keys) presence(member string) string { return k.prefix + "presence:{" + member + "}" }

// mailbox is a stream with entries 0-<seq>, fields payload, payer, group, link.
// TTL: Config.MailboxTTL after the last append, less a sixteenth at most, so
// that not every append need write it; Config.UnseenTTL while the member has
// never joined. Written by any node, trimmed and read by the node that holds the
// member's socket.
func (k keys) mailbox(member string) string { return k.prefix + "mailbox:{" + member + "}" }

// usage is a hash: the mailbox's contents by payer and group; see usage.lua. TTL:
// the mailbox's, or longer. Written and read by the scripts that append and trim;
// rebuilt where it does not agree with the stream.
func (k keys) usage(member string) string { return k.mailbox(member) + ":usage" }

// generations is a string: the ranges of numbers the mailbox has given; see
// generations.lua. TTL: the mailbox's. Written by the scripts that append and give
// new numbers; read by them and by those that read and trim.
func (k keys) generations(member string) string { return k.mailbox(member) + ":generations" }

// joined is a string: when the member last joined or left, RFC 3339, by Redis's
// clock; empty where only an older version's mailbox showed that it had. TTL:
// joinedTTL. Written by the join and leave scripts, read by every append to a
// member without a socket and by LastSeen.
func (k keys) joined(member string) string { return k.prefix + "joined:{" + member + "}" }

// seen is a set: the newest message ids appended to the mailbox. When full it
// becomes seenBefore, replacing the former one. TTL: the mailbox's, after the last
// append with an id. Both are written and read by the append script alone.
func (k keys) seen(member string) string       { return k.prefix + "seen:{" + member + "}" }
func (k keys) seenBefore(member string) string { return k.seen(member) + ":old" }

// lock is a string: the holder's token. TTL: Config.LockTTL. Written by the
// holder; read by the holder and by scripts that check the token.
func (k keys) lock(id string) string { return k.prefix + "lock:{" + id + "}" }

// channel is the pub/sub channel of one node: messages and notices for the
// sockets it holds. Published to by every node, read by that node.
func (k keys) channel(id string) string { return k.channelPrefix() + id }

func (k keys) channelPrefix() string { return k.prefix + "node:" }

// LockKey returns the key of the lock on id, as [Node.Lock] takes it. It shares its
// slot with every other key that has {id} in braces, so that a script may check the
// lock's token beside the data that the lock protects.
func (n *Node) LockKey(id string) string { return n.keys.lock(id) }

// maxIDBytes bounds ids of nodes, members and connections.
const maxIDBytes = 128

// validID reports whether s may stand in a key: 1 to 128 bytes of Unicode letters,
// digits and _ . @ -. Which names are allowed is decided elsewhere, and more
// narrowly; older names keep their keys.
func validID(s string) bool {
	if s == "" || len(s) > maxIDBytes || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r):
		case r == '_', r == '.', r == '@', r == '-':
		default:
			return false
		}
	}
	return true
}
