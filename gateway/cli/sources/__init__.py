"""Where commands read and decide: a store on disk, or a served engine over HTTP."""
