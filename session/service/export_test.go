package service

import "context"

// Sweep processes one batch of due sessions, as Run does.
func (v *Service) Sweep(ctx context.Context) int { return v.sweep(ctx) }
