"""report.html, a run as one self-contained page: what its folder holds (`gather`), its pictures (`sheets`), curves as
SVG (`curves`) under headings (`groups`), tables (`tables`), and the page of all of these (`page`; style.css and page.js
lie in `page/`).

It reads files alone, all of which may be damaged or hostile: what cannot be read is omitted with a note, and text is
escaped when it becomes HTML (`markup`). `commands.report` chooses the folders.
"""
