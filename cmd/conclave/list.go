package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

// listAction prints the result of list, limited by a flag.
func listAction(c *cli, flags *flag.FlagSet, list func(*cli, context.Context, *rest.Client, int) error) action {
	c.serverFlags(flags)
	limit := flags.Int("limit", 50, "list at most `n` items")
	return func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return misuse("a list takes no arguments")
		}
		return c.withAPI(args, func(api *rest.Client) error { return list(c, ctx, api, *limit) })
	}
}

func (c *cli) withAPI(args []string, do func(*rest.Client) error) error {
	if len(args) > 1 {
		return misuse("at most one id")
	}
	api, err := c.api()
	if err != nil {
		return err
	}
	defer api.Close()
	return do(api)
}

// pages collects up to limit items.
func pages[T any](ctx context.Context, limit int, get func(context.Context, rest.Page) (rest.List[T], error)) ([]T, error) {
	items := []T{} // not nil: an empty list is [] in JSON
	page := rest.Page{}
	for len(items) < limit {
		page.Limit = min(limit-len(items), 100)
		list, err := get(ctx, page)
		if err != nil {
			return nil, err
		}
		items = append(items, list.Items...)
		if list.Next == "" || list.Next == page.Before {
			break
		}
		page.Before = list.Next
	}
	return items, nil
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// table writes columns below their heads.
func table(w io.Writer, head string, fill func(row func(...any))) error {
	rows := [][]string{strings.Split(head, "\t")}
	fill(func(cells ...any) {
		row := make([]string, len(cells))
		for i, cell := range cells {
			row[i] = clean(fmt.Sprint(cell))
		}
		rows = append(rows, row)
	})
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(pad(cell, widths[i]+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
