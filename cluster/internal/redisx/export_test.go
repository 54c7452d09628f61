package redisx

// Waiting returns how many callers wait for a round trip.
func (c *Client) Waiting() int {
	c.trips.mu.Lock()
	defer c.trips.mu.Unlock()
	return len(c.trips.queue)
}
