package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

// protocol is the version of the format that nodes share: records, publications,
// mailboxes. It changes when an older node could not run beside a newer one; nodes
// of adjacent versions can.
const protocol = 1

// compareEvery is the number of heartbeats between comparisons with other nodes.
const compareEvery = 3

// Errors of Ready about other nodes.
var (
	// ErrDiffers: a node that started earlier has another secret under a name of
	// Config.Agree, or speaks a version of the nodes' protocol that is not adjacent.
	ErrDiffers = errors.New("cluster: this node does not agree with one that is there already")
	// ErrIDTaken: a process that started later has this node's id.
	ErrIDTaken = errors.New("cluster: another process has the same node id")
)

// agreement is the part of a node's record that others compare: "name=mark,mark …".
func (c *Config) agreement() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(c.Agree)) {
		parts = append(parts, name+"="+strings.Join(c.Agree[name], ","))
	}
	return strings.Join(parts, " ")
}

// compare reads the records of other nodes. Of two that differ the one that started
// later is not ready; both log it.
func (n *Node) compare(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.HeartbeatEvery)
	defer cancel()
	ids, err := n.rdb.ZRange(ctx, n.keys.nodes(), 0, -1).Result()
	if err != nil {
		return // again later
	}
	pipe := n.rdb.Pipeline()
	records := make(map[string]*redis.SliceCmd, len(ids))
	for _, id := range ids {
		if id != n.cfg.NodeID {
			records[id] = pipe.HMGet(ctx, n.keys.node(id), "started_at", "protocol", "agree")
		}
	}
	if redisx.Exec(ctx, pipe) != nil {
		return
	}
	found := ""
	later := false
	for _, id := range slices.Sorted(maps.Keys(records)) {
		record := records[id].Val()
		started, _ := record[0].(string)
		spoken, _ := record[1].(string)
		marks, _ := record[2].(string)
		if what := n.difference(spoken, marks); started != "" && what != "" {
			found += fmt.Sprintf(" %s: %s;", id, what)
			later = later || started < n.startedAt()
		}
	}
	n.noteDifference(strings.Trim(found, " ;"), later)
	n.compared.Store(true)
}

// difference names what another node differs in; empty for nothing. A node of an
// older version reports nothing to compare.
func (n *Node) difference(spoken, marks string) string {
	var all []string
	if theirs, err := strconv.Atoi(spoken); err == nil && max(theirs-n.cfg.protocol, n.cfg.protocol-theirs) > 1 {
		all = append(all, fmt.Sprintf("version %d of the nodes' protocol, here %d", theirs, n.cfg.protocol))
	}
	for part := range strings.FieldsSeq(marks) {
		name, list, _ := strings.Cut(part, "=")
		ours, known := n.cfg.Agree[name]
		theirs := strings.Split(list, ",")
		if known && len(ours) > 0 && !slices.Contains(theirs, ours[0]) && !slices.Contains(ours, theirs[0]) {
			all = append(all, "another "+name)
		}
	}
	return strings.Join(all, " and ")
}

func (n *Node) noteDifference(found string, later bool) {
	was := n.differs.Load()
	if found == "" {
		n.differs.Store(nil)
		if was != nil {
			n.log.Info().Msg("agrees with all nodes again")
		}
		return
	}
	n.differs.Store(&difference{found, later})
	if was == nil || was.what != found {
		n.log.Error().Str("differs", found).Bool("ready", !later).Msg("nodes of this cluster do not agree: is the prefix shared by two clusters, or a secret wrong?")
	}
}

// difference is a result of compare.
type difference struct {
	what  string
	later bool // this node started after the other
}

// Agrees returns an error while this node must not serve because of other nodes:
// ErrDiffers, ErrIDTaken, or ErrNotReady before the first comparison.
func (n *Node) Agrees() error {
	if err := n.disagreement(); err != nil {
		return err
	}
	if !n.compared.Load() {
		return ErrNotReady
	}
	return nil
}

// disagreement is Agrees for the differences already found.
func (n *Node) disagreement() error {
	if n.taken.Load() {
		return ErrIDTaken
	}
	if d := n.differs.Load(); d != nil && d.later {
		return fmt.Errorf("%w: %s", ErrDiffers, d.what)
	}
	return nil
}
