package service

import "context"

// Sweep brings one batch of due sessions on, as Run does.
func (v *Service) Sweep(ctx context.Context) int { return v.sweep(ctx) }
