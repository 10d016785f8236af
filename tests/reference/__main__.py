"""Write the parts of the reference that come from the code: `make docs`."""

from .pages import outdated

if __name__ == "__main__":
    for page, text in outdated().items():
        page.write_text(text, encoding="utf-8")
        print(f"written: {page}")
