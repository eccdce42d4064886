"""derny: the Peloton v1alpha cluster-scheduler API in one Python process."""
