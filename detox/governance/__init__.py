"""Who may load what: signed manifests."""
