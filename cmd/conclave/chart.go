package main

import (
	"fmt"
	"strings"

	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

// chart draws the steps of a session as the protocol's sequence diagram: a lane
// for the coordinator, one for the server, and one for each participant.
//
//	alice                   server                    bob     carol
//	  |--- sign_request ------>|                       |       |
//	  |                        |--- sign_invite ------>|       |
//	  |                        |--- sign_invite -------------->|
//	  |                        |<-- sign_response -----|       |  accepted
//
// If there is no room for the lanes it writes a list of the messages.
type chart struct {
	names  []string // of the lanes' owners, printable
	at     []int    // their columns
	width  int      // of the screen
	lanes  bool     // there is room for them
	colors *console
}

const (
	firstLane  = 2  // column of the coordinator's
	wideLane   = 25 // room for the longest message
	narrowLane = 8  // between participants, at least
	widestLane = 18
)

// newChart is the chart of a session on a screen of that many columns.
func newChart(s rest.SessionInfo, width int, colors *console) chart {
	c := chart{names: []string{clean(s.Coordinator), "server"}, at: []int{firstLane, firstLane + wideLane}, width: width, colors: colors}
	lane := narrowLane
	for _, user := range s.Participants {
		c.names = append(c.names, clean(user))
		lane = max(lane, min(columns(c.names[len(c.names)-1])+2, widestLane))
	}
	n := len(s.Participants)
	end := func() int { return firstLane + 2*wideLane + (n-1)*lane + 1 }
	if end() > width {
		lane = narrowLane
	}
	for i := range n {
		c.at = append(c.at, firstLane+2*wideLane+i*lane)
	}
	c.lanes = end() <= width && n > 0
	return c
}

// head names the lanes.
func (c chart) head() []string {
	if !c.lanes {
		return nil
	}
	var b strings.Builder
	used := 0
	for i, name := range c.names {
		begin, end := 0, c.width // to the middle between two lanes
		if i > 0 {
			begin = (c.at[i-1]+c.at[i])/2 + 1
		}
		if i+1 < len(c.at) {
			end = (c.at[i] + c.at[i+1]) / 2
		}
		name = fit(name, end-begin)
		start := min(max(c.at[i]-columns(name)/2, begin), end-columns(name))
		b.WriteString(strings.Repeat(" ", start-used) + name)
		used = start + columns(name)
	}
	return []string{b.String(), c.bars()}
}

// bars is a line without a message.
func (c chart) bars() string { return strings.TrimRight(string(c.blank()), " ") }

func (c chart) blank() []byte {
	line := []byte(strings.Repeat(" ", c.at[len(c.at)-1]+1))
	for _, x := range c.at {
		line[x] = '|'
	}
	return line
}

// line draws a step.
func (c chart) line(s step) string {
	note := clean(s.note)
	if !c.lanes || s.to >= len(c.at) || s.from >= len(c.at) {
		return c.listed(s, note)
	}
	line := c.blank()
	if s.from != s.to {
		left, right := c.at[min(s.from, s.to)], c.at[max(s.from, s.to)]
		for x := left + 1; x < right; x++ {
			line[x] = '-'
		}
		if s.to > s.from {
			line[right-1] = '>'
		} else {
			line[left+1] = '<'
		}
		copy(line[left+4:], " "+s.what+" ")
	}
	if note == "" {
		return string(line)
	}
	if room := c.width - len(line) - 2; columns(note) > room && room < len(note) {
		note = fit(note, max(room, 0))
	}
	return strings.TrimRight(string(line)+"  "+c.colors.paint(s.style, note), " ")
}

// listed is a step without lanes.
func (c chart) listed(s step, note string) string {
	name := func(lane int) string {
		if lane < len(c.names) {
			return c.names[lane]
		}
		return fmt.Sprintf("part %d", lane-laneServer)
	}
	text := note
	if s.from != s.to {
		text = fmt.Sprintf("%s -> %s: %s", name(s.from), name(s.to), s.what)
		if note != "" {
			text += ", " + note
		}
	}
	return c.colors.paint(s.style, text)
}
