"""Figures: values in, Plotly figures and drawing data out. No Streamlit, no clock, no database."""
