"""The two drawings that Plotly has no figure for, with their own script: the service graph and the trace timeline.

Scripts set text as text (``textContent``), never as markup: what a span is called cannot become part of the page.
"""
