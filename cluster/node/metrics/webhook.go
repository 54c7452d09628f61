package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-mpc/conclave/wsconn/webhook"
)

func (m *Metrics) newWebhook() {
	m.webhookTries = m.counters("webhook_tries_total", "Webhook requests of this node, by result.", "result")
	for _, result := range webhook.Results {
		m.webhookTries.WithLabelValues(result)
	}
	m.webhookGivenUp = m.counters("webhook_given_up_total", "Outcomes that this node found and that are not sent to the webhook, by reason.", "reason")
	for _, reason := range webhook.Reasons {
		m.webhookGivenUp.WithLabelValues(reason)
	}
}

// Tried implements webhook.Observer.
func (m *Metrics) Tried(result string) { count(m.webhookTries, result, webhook.Results) }

// GivenUp implements webhook.Observer.
func (m *Metrics) GivenUp(reason string) { count(m.webhookGivenUp, reason, webhook.Reasons) }

// count increments the counter for word, of a closed set.
func count(c *prometheus.CounterVec, word string, all []string) {
	if !slices.Contains(all, word) {
		word = other
	}
	c.WithLabelValues(word).Inc()
}
