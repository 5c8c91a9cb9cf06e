package metadata

import "context"

// TrimOutbox removes what nobody needs of the list of events.
func (c *Catalog) TrimOutbox(ctx context.Context) error { return c.outbox.trimOnce(ctx) }
