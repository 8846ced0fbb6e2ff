"""The dashboard: its pages, who may see them, and how they are served."""
